"""What this process and all below it use while something runs: memory, all of them together, and processor time.

Memory is looked at a few times a second from a thread of its own. Pages that several processes share are counted once
where the system tells (Linux's proportional set size). Knows nothing of what runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from recsys.workers import peak_rss_bytes

INTERVAL = 0.2
"""Seconds between two looks."""
_SHARE = 0.05  # of a core, at most, for looking


@dataclass
class Usage:
    """What was used between two moments."""

    peak_bytes: int = 0
    """The most memory that was seen, of all processes together."""
    cpu_seconds: float = 0.0
    """Processor time of all processes together."""


@contextmanager
def measured(usage: Usage, interval: float = INTERVAL) -> Iterator[None]:
    """Fill in ``usage`` for the block, whether it fails or not.

    A peak between two looks is missed, unless it is the highest that this process itself has ever had: that the system
    keeps. Blocks may overlap, in one thread or in several: each sees everything that runs.

    Args:
        usage: what is filled in.
        interval: seconds between two looks; more where a look takes long.
    """
    ever, began, ended = peak_rss_bytes(), cpu_seconds(), threading.Event()
    looking = threading.Thread(target=_look, args=(usage, ended, interval), name="usage", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
        if peak_rss_bytes() > ever:
            usage.peak_bytes = max(usage.peak_bytes, _own_peak())
        usage.cpu_seconds = max(0.0, cpu_seconds() - began)


def _look(usage: Usage, ended: threading.Event, interval: float) -> None:
    wait = 0.0
    while not ended.wait(wait):
        began = time.thread_time()
        usage.peak_bytes = max(usage.peak_bytes, memory_bytes(usage.peak_bytes))
        wait = max(interval, (time.thread_time() - began) / _SHARE)
    usage.peak_bytes = max(usage.peak_bytes, memory_bytes(usage.peak_bytes))


def memory_bytes(known: int = 0) -> int:
    """Memory that this process and all below it hold now.

    Args:
        known: a figure that only a higher one matters against: where even the sum of the resident sizes, shared pages
            counted once per process, is no higher, that sum is given, for the exact figure takes longer.
    """
    processes = _processes()
    resident = [_resident(process) for process in processes]
    if sum(resident) <= known:
        return sum(resident)
    return sum(_own_share(process.pid, own) for process, own in zip(processes, resident, strict=True))


def _own_peak() -> int:
    """The most that this process has held, with what it shares divided as it is now."""
    own = psutil.Process()
    resident = _resident(own)
    return _own_share(own.pid, resident) + max(0, peak_rss_bytes() - resident)


def cpu_seconds() -> float:
    """Processor time that this process and all below it, ended or not, have taken so far."""
    return sum(_cpu(process) for process in _processes())


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0


def _own_share(pid: int, resident: int) -> int:
    """A process's memory with what it shares divided among the sharers; where that is not told, its resident size."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(told.partition("\nPss:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resident


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0))
