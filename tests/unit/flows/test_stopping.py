"""SIGTERM while the main thread is deep in a native routine: the process ends in seconds, and says goodbye."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys import lock

_RUN = """
import hashlib, sys, time
from pathlib import Path
from flows.stopping import on_stop, stoppable
from recsys import lock
home = Path(sys.argv[1])
def goodbye():
    (home / "goodbye").write_text("KILLED")
    if sys.argv[2] == "hang":
        time.sleep(600)
with lock.hold(home, "busy"), stoppable(), on_stop(goodbye):
    with stoppable():  # as a flow inside a command
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 300_000_000)  # minutes of native code, without a byte code between
"""


@pytest.mark.parametrize(("number", "goodbye"), [(signal.SIGTERM, "quick"), (signal.SIGINT, "quick")])
def test_a_busy_run_stops_and_frees_the_lock(tmp_path: Path, number: signal.Signals, goodbye: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(tmp_path), goodbye],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert time.monotonic() - began < 15
    assert f"Stopped by {number.name}: what was served is untouched" in errors
    assert (tmp_path / "goodbye").read_text() == "KILLED"
    assert lock.holder_of(tmp_path) is None


def test_a_goodbye_that_hangs_does_not_keep_it(tmp_path: Path) -> None:
    test_a_busy_run_stops_and_frees_the_lock(tmp_path, signal.SIGTERM, "hang")
