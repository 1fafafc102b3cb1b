"""What is used while a block runs, with real processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

import psutil
import pytest

from recsys import usage
from recsys.usage import Usage, cpu_seconds, measured, memory_bytes

HOLD = """
import sys
held = bytearray({size})
held[::4096] = b"x" * len(held[::4096])
print("held", flush=True)
sys.stdin.read()
"""
MB = 1 << 20


def holder(size: int) -> subprocess.Popen[bytes]:
    """A process that holds so many bytes until its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(size=size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_the_peak_is_that_of_all_processes_together() -> None:
    both = Usage()
    gc.collect()
    with measured(both, interval=0.01):
        children = [holder(60 * MB), holder(60 * MB)]
        time.sleep(0.5)  # several looks
        for child in children:
            child.communicate()
        after = memory_bytes()
    assert 100 * MB < both.peak_bytes - after < 300 * MB, "they have ended"


def test_a_peak_of_our_own_between_two_looks_is_known_to_the_system() -> None:
    seen, before = Usage(), usage.peak_rss_bytes()
    with measured(seen, interval=60):
        held = bytearray(before + 50 * MB)  # more than there ever was
        held[::4096] = b"x" * len(held[::4096])
        del held
    assert seen.peak_bytes > before + 40 * MB


def test_processor_time_counts_children_that_have_ended() -> None:
    spent = Usage()
    with measured(spent):
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < .4: pass"], check=True)
    assert 0.4 <= spent.cpu_seconds < 5
    assert cpu_seconds() >= spent.cpu_seconds


def test_a_block_that_fails_is_measured_too() -> None:
    seen = Usage()
    with pytest.raises(ValueError, match="no"), measured(seen):
        raise ValueError("no")
    assert seen.peak_bytes > 10 * MB


def test_a_figure_that_cannot_matter_is_not_taken_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_own_share", lambda pid, resident: 7)
    assert memory_bytes() % 7 == 0  # of every process, children of other tests among them
    assert memory_bytes(known=1 << 60) > 10 * MB


def test_who_has_ended_in_between_holds_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(gone.pid)
    gone.communicate()
    assert (usage._resident(process), usage._cpu(process)) == (0, 0.0)
    assert usage._own_share(gone.pid, 5) == 5, "nothing more exact is known"
    assert usage._own_share(os.getpid(), 0) > 0
