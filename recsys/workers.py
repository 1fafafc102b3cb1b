"""Runs a trainer in a process of its own, and hears what it has to say.

The child is a fresh interpreter (nothing is forked), limits its threads before it imports PyTorch, sends the
:class:`~recsys.tracker.Tracker` events through a pipe, and dies with its parent. What it prints goes to a log file.
Knows nothing of what the function does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from recsys.errors import MarqueeError, TrainingError
from recsys.tracker import Tracker

T = TypeVar("T")

_BOOT = "import sys; sys.path[:] = {path!r}; from recsys.workers import child_main; child_main({ends}, {threads})"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_children: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class ChildResult(Generic[T]):
    """What a child process came to."""

    value: T
    peak_rss_bytes: int
    """The most memory it held."""
    seconds: float = 0.0
    """From its start to its end."""

    @property
    def cost(self) -> dict[str, float]:
        """What an artefact's summary keeps of it: so that it is known too where the artefact is used again."""
        return {"seconds": round(self.seconds, 3), "peak_rss_bytes": self.peak_rss_bytes}


def run_in_child(
    function: Callable[..., T],
    *args: object,
    name: str,
    threads: int,
    tracker: Tracker,
    log: Path,
    **kwargs: object,
) -> ChildResult[T]:
    """Call ``function(*args, **kwargs, tracker=...)`` in a process of its own and wait for it.

    May be called from several threads at once. The function must be importable by name; arguments and result travel
    by pickle between the two processes, so keep them small: paths, not tables.

    Args:
        function: a module-level function that takes a keyword ``tracker``.
        args: its positional arguments.
        name: the trainer's name in messages, such as "user autoencoder".
        threads: CPU threads that the child may use.
        tracker: hears the child's events, in the calling thread.
        log: file for what the child prints, and for the traceback if it fails; appended to.
        kwargs: its other keyword arguments.

    Raises:
        MarqueeError: as the child raised it.
        TrainingError: the child raised anything else, or was killed; it names the trainer.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    ours, theirs = os.pipe(), os.pipe()  # (reader, writer): child → us, us → child
    with Connection(ours[0], writable=False) as reader, Connection(theirs[1], readable=False) as writer:
        child = _start(theirs[0], ours[1], threads, log)
        try:
            with contextlib.suppress(BrokenPipeError):  # it died at once: its exit status says more
                writer.send_bytes(pickle.dumps((function, args, kwargs)))
            return replace(_listen(reader, child, name, tracker, log), seconds=time.monotonic() - began)
        finally:
            child.kill()
            child.wait()
            _children.discard(child)


def stop_children() -> None:
    """Kill every child that is running: who waits for one gets a TrainingError. For signal handlers."""
    for child in tuple(_children):
        child.kill()


def _start(reader: int, writer: int, threads: int, log: Path) -> subprocess.Popen[bytes]:
    path = [entry or str(Path.cwd()) for entry in sys.path]
    boot = _BOOT.format(path=path, ends=f"{reader}, {writer}", threads=threads)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(reader, writer),
            )
    finally:
        os.close(reader)
        os.close(writer)
    _children.add(child)
    return child


def _listen(
    reader: Connection, child: subprocess.Popen[bytes], name: str, tracker: Tracker, log: Path
) -> ChildResult[Any]:
    while True:
        try:
            kind, *content = pickle.loads(reader.recv_bytes())
        except (EOFError, OSError):
            raise _died(child.wait(), name, log) from None
        if kind == "done":
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)  # let it leave in its own way; past that it is killed
            return ChildResult(*content)
        if kind == "failed":
            raise content[0]
        if kind == "raised":
            raise TrainingError(
                f"the {name} stopped with {content[0]}",
                where=str(log),
                remedy="the traceback is in that file; the same command goes on from what had finished",
            )
        getattr(tracker, kind)(*content)


def _died(status: int, name: str, log: Path) -> TrainingError:
    if status < 0:
        number = -status
        try:
            cause = f"was killed by {signal.Signals(number).name}"
        except ValueError:
            cause = f"was killed by signal {number}"
    else:
        cause = f"exited with status {status} without a result"
    memory = " (SIGKILL is often the kernel's answer to too little memory)" if status == -signal.SIGKILL else ""
    return TrainingError(
        f"the process of the {name} {cause}{memory}",
        where=str(log),
        remedy="run the same command again: it goes on from its last epoch; if it was memory, lower batch_size",
    )


class _PipeTracker:
    """A Tracker in the child: sends its events to the parent."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def params(self, values: Mapping[str, object]) -> None:
        self._send("params", dict(values))

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        self._send("epoch", number, total, dict(metrics))

    def note(self, text: str) -> None:
        self._send("note", text)


def child_main(reader: int, writer: int, threads: int) -> None:
    """The child's entry: limit threads, watch the parent, run, answer. ``reader`` and ``writer`` are descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, and it decides
    faulthandler.enable()
    limit_threads(threads)
    for end in (reader, writer):
        os.set_inheritable(end, False)
    call = Connection(reader, writable=False)
    answers = Connection(writer, readable=False)
    payload = call.recv_bytes()
    threading.Thread(target=_die_with_parent, args=(call,), daemon=True).start()
    serve(payload, answers)
    answers.close()


def limit_threads(threads: int) -> None:
    """Limit the threads of BLAS and OpenMP. Holds only for libraries that this process has not loaded yet."""
    for variable in _THREAD_LIMITS:
        os.environ[variable] = str(threads)


def _die_with_parent(call: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        call.recv_bytes()  # nothing more is ever sent: this returns when the parent is gone
    os.kill(os.getpid(), signal.SIGKILL)


def serve(payload: bytes, answers: Connection) -> None:
    """Run a pickled (function, args, kwargs) with a tracker, and send how it came out."""
    lock = threading.Lock()

    def send(*message: object) -> None:
        with lock:
            answers.send_bytes(pickle.dumps(message))

    try:
        function, args, kwargs = pickle.loads(payload)
        value = function(*args, **kwargs, tracker=_PipeTracker(send))
        send("done", value, peak_rss_bytes())
    except MarqueeError as error:
        traceback.print_exc()
        send("failed", error)
    except BaseException as error:  # whatever it was, the parent shall know, and the log has the traceback
        traceback.print_exc()
        send("raised", f"{type(error).__name__}: {error}")


def peak_rss_bytes() -> int:
    """The most memory that this process has held, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):  # not Linux: there the figure may include the parent's at the start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
