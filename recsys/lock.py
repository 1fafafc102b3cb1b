"""One run at a time per home: a file lock that names its holder, dies with it, and fences off a holder that froze.

The lock is the kernel's (``flock``), so it is free as soon as its process is gone, whatever killed it. The holder's
heartbeat touches the file; where that stops while the process lives (frozen, swapped out), another run takes over with
a higher token, and the old holder's publication is refused: :func:`fence` admits only whom the file names.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import LockHeldError, PublicationError

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 300.0
"""A holder silent for this long is taken to be frozen. Far above any pause of a healthy process."""
_GUARD_SECONDS = 10.0


class Holder(BaseModel):
    """Who holds a home's lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    pid: int
    since: datetime
    token: int
    """Grows by one with every holder of this home."""


@contextmanager
def hold(home: Path, run_id: str, *, stale_after: float = STALE_SECONDS) -> Iterator[Holder]:
    """Hold the home's lock for the length of the block.

    Raises:
        LockHeldError: another run holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor, holder = _acquire(home, run_id, stale_after)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(descriptor, ended), name="lock heartbeat", daemon=True)
    beat.start()
    try:
        yield holder
    finally:
        ended.set()
        beat.join()  # before its descriptor's number may mean another file
        os.close(descriptor)  # which frees the lock


def holder_of(home: Path) -> Holder | None:
    """Who holds the home's lock now, or None. A look, no promise: it may change at once."""
    if not _lock_file(home).exists():
        return None
    with _guard(home):  # a look takes the lock for an instant: nobody who wants it shall trip over that
        descriptor = os.open(_lock_file(home), os.O_RDWR)
        try:
            return None if _try_flock(descriptor) else _read(home)
        finally:
            os.close(descriptor)


def check_free(home: Path, *, stale_after: float = STALE_SECONDS) -> None:
    """Raise where a run holds the lock: an early word, before anything costly. :func:`hold` decides.

    Raises:
        LockHeldError: another run holds it.
    """
    holder = holder_of(home)
    if holder is not None and not _silent_for(home, stale_after):
        raise _held(home, holder)


def check(home: Path, run_id: str) -> Holder:
    """Make sure that this run still holds the lock.

    Raises:
        PublicationError: another run has taken over, or the lock was removed.
    """
    holder = _read(home)
    if holder is None or (holder.run_id, holder.pid) != (run_id, os.getpid()):
        now = f"run {holder.run_id} (token {holder.token}) has taken over" if holder else "the lock is gone"
        raise PublicationError(
            f"this run ({run_id}) no longer holds the lock: {now}",
            where=str(_lock_file(home)),
            remedy="nothing was published by this run; what the other run publishes stands",
        )
    return holder


@contextmanager
def fence(home: Path, run_id: str) -> Iterator[Holder]:
    """Check that this run holds the lock, and keep others from taking over until the block is left. Keep it short.

    Raises:
        PublicationError: another run has taken over, or the lock was removed.
    """
    with _guard(home):
        yield check(home, run_id)


def _acquire(home: Path, run_id: str, stale_after: float) -> tuple[int, Holder]:
    path = _lock_file(home)
    with _guard(home):
        previous = _read(home)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_flock(descriptor):
            os.close(descriptor)
            if not _silent_for(home, stale_after):
                raise _held(home, previous)
            # The frozen holder keeps its lock on the old file; the name now belongs to a new one.
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            _try_flock(descriptor)
            holder = _write(descriptor, run_id, previous)
            fresh.replace(path)
            return descriptor, holder
        return descriptor, _write(descriptor, run_id, previous)


def _write(descriptor: int, run_id: str, previous: Holder | None) -> Holder:
    token = previous.token + 1 if previous else 1
    holder = Holder(run_id=run_id, pid=os.getpid(), since=datetime.now(UTC), token=token)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.model_dump_json().encode() + b"\n", 0)
    os.fsync(descriptor)
    return holder


def _read(home: Path) -> Holder | None:
    try:
        return Holder.model_validate_json(_lock_file(home).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a full disk, say: silence is then what others see
            os.utime(descriptor)


def _silent_for(home: Path, seconds: float) -> bool:
    try:
        return time.time() - _lock_file(home).stat().st_mtime > seconds
    except FileNotFoundError:
        return False


def _held(home: Path, holder: Holder | None) -> LockHeldError:
    by = (
        f"by run {holder.run_id} (process {holder.pid}) since {holder.since:%Y-%m-%d %H:%M:%S} UTC"
        if holder
        else "by a run that is just starting"
    )
    return LockHeldError(
        f"the lock is already held {by}",
        where=str(_lock_file(home)),
        remedy="wait until that run has ended, or use another --home",
    )


@contextmanager
def _guard(home: Path) -> Iterator[None]:
    """Serialise those who read and change the lock file; held for milliseconds."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "lock.guard", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + _GUARD_SECONDS
    try:
        while not _try_flock(descriptor):
            if time.monotonic() > deadline:
                raise _held(home, _read(home))
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(home: Path) -> Path:
    return home / "lock"
