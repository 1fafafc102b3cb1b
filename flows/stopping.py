"""SIGTERM and Ctrl-C: stop within seconds, whatever the main thread is doing.

Python runs signal handlers between byte codes, so a main thread inside a long numerical routine would hear of the
signal minutes later. A watching thread hears at once (through ``signal.set_wakeup_fd``), kills the trainers, lets those
who registered say goodbye (MLflow: KILLED), and ends the process: the lock is the kernel's, and falls with it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from recsys.workers import stop_children

_GOODBYE_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_WATCH = "stop watch"

_goodbyes: list[Callable[[], object]] = []


@contextmanager
def on_stop(goodbye: Callable[[], object]) -> Iterator[None]:
    """If the process is told to stop inside the block, call this first (it has a few seconds)."""
    _goodbyes.append(goodbye)
    try:
        yield
    finally:
        _goodbyes.remove(goodbye)


@contextmanager
def stoppable() -> Iterator[None]:
    """Stop within seconds on SIGTERM or SIGINT inside the block. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _watching():
        # Set again where blocks nest: Prefect puts its own handlers in between.
        old_handlers = {number: signal.signal(number, _heard) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)


@contextmanager
def _watching() -> Iterator[None]:
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    threading.Thread(target=_watch, args=(ear,), name=_WATCH, daemon=True).start()
    old_mouth = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_mouth)
        mouth.close()  # ends the watching thread


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Keep the main thread here until the watching thread has ended the process: nothing is to be unwound."""
    time.sleep(2 * _GOODBYE_SECONDS)


def _watch(ear: socket.socket) -> None:
    with ear:
        while heard := ear.recv(1):
            if heard[0] in _SIGNALS:
                _stop(signal.Signals(heard[0]))


def _stop(number: signal.Signals) -> None:
    stop_children()
    farewell = threading.Thread(target=_say_goodbye, daemon=True)
    farewell.start()
    farewell.join(_GOODBYE_SECONDS)
    for child in psutil.Process().children(recursive=True):  # Prefect's own server, where it started one
        with suppress(psutil.Error):
            child.terminate()
    with suppress(OSError, ValueError):
        print(
            f"\nStopped by {number.name}: what was served is untouched. The same command goes on from here.",
            file=sys.stderr,
            flush=True,
        )
    os._exit(1)


def _say_goodbye() -> None:
    for goodbye in reversed(_goodbyes):
        with suppress(Exception):  # a server that does not answer keeps nobody from stopping
            goodbye()
