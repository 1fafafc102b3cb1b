"""The lock between real processes: held, freed by death, taken over from a frozen holder, fenced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys import lock
from recsys.errors import LockHeldError, PublicationError

_HOLDER = """
import sys, time
from pathlib import Path
from recsys import lock
home, run_id, published = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
with lock.hold(home, run_id) as holder:
    print("held", holder.token, flush=True)
    sys.stdin.readline()
    with lock.fence(home, run_id):
        published.write_text(run_id)
    print("published", flush=True)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path/home`` until it is sent a line; then it publishes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "home"), "first", str(tmp_path / "published")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held 1\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_is_told_who_holds_it_and_since_when(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(LockHeldError) as refused, lock.hold(tmp_path / "home", "second"):
        pass
    assert refused.value.exit_code == 4
    assert "already held by run first" in str(refused.value)
    assert f"process {other.pid}" in str(refused.value)
    assert "UTC" in str(refused.value)
    with pytest.raises(LockHeldError):
        lock.check_free(tmp_path / "home")


def test_the_lock_falls_with_its_process(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    lock.check_free(tmp_path / "home")
    with lock.hold(tmp_path / "home", "second") as holder:
        assert holder.token == 2


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    held = lock.holder_of(tmp_path / "home")
    assert held is not None
    assert (held.run_id, held.pid, held.token) == ("first", other.pid, 1)
    other.kill()
    other.wait()
    assert lock.holder_of(tmp_path / "home") is None
    assert lock.holder_of(tmp_path / "elsewhere") is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_frozen_holder_is_succeeded_and_its_late_publication_refused(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    home = tmp_path / "home"
    os.kill(other.pid, signal.SIGSTOP)
    long_ago = time.time() - 1000
    os.utime(home / "lock", (long_ago, long_ago))  # as if its heart had not beaten since
    with lock.hold(home, "second", stale_after=60) as holder:
        assert holder.token == 2
        os.kill(other.pid, signal.SIGCONT)
        _, errors = other.communicate("go on\n", timeout=20)
        assert other.returncode != 0
        assert "PublicationError" in errors
        assert "run second (token 2) has taken over" in errors
        assert not (tmp_path / "published").exists()
        with lock.fence(home, "second"):
            pass
    with lock.hold(home, "third") as holder:
        assert holder.token == 3


def test_a_healthy_holder_publishes(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    output, _ = other.communicate("go on\n", timeout=20)
    assert output == "published\n"
    assert (tmp_path / "published").read_text() == "first"


def test_the_heart_beats_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.02)
    with lock.hold(tmp_path, "a"):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "lock").stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "lock").stat().st_mtime > 1


def test_no_other_run_takes_over_inside_the_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_GUARD_SECONDS", 0.1)
    with lock.hold(tmp_path, "a"), lock.fence(tmp_path, "a"):
        os.utime(tmp_path / "lock", (0, 0))
        with pytest.raises(LockHeldError), lock.hold(tmp_path, "b", stale_after=1):
            pass


def test_who_does_not_hold_it_may_not_publish(tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match="the lock is gone"):
        lock.check(tmp_path, "a")
    with lock.hold(tmp_path, "a"):
        with pytest.raises(PublicationError, match=r"run a \(token 1\) has taken over"), lock.fence(tmp_path, "b"):
            pass
        (tmp_path / "lock").unlink()
        with pytest.raises(PublicationError, match="the lock is gone"):
            lock.check(tmp_path, "a")


def test_one_process_holds_it_once(tmp_path: Path) -> None:
    with (
        lock.hold(tmp_path, "a"),
        pytest.raises(LockHeldError, match="already held by run a"),
        lock.hold(tmp_path, "b"),
    ):
        pass


def test_a_damaged_lock_file_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{not json")
    with lock.hold(tmp_path, "a") as holder:
        assert holder.token == 1
