"""Children are real processes here: killed, failing, orphaned, two at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from recsys import workers
from recsys.errors import ConfigError, TrainingError
from recsys.tracker import NullTracker

JOBS = """
import ctypes, os, sys, time
from recsys.errors import ConfigError

def report(count, *, tracker):
    tracker.params({"size": count})
    for number in range(1, count + 1):
        tracker.epoch(number, count, {"loss": 1.0 / number})
    tracker.note("almost there")
    return {"path": "somewhere", "pid": os.getpid()}

def environment(*, tracker):
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return limits, "torch" in sys.modules

def torch_threads(*, tracker):
    import torch
    return torch.get_num_threads()

def hold(megabytes, *, tracker):
    block = bytearray(megabytes << 20)
    return len(block)

def fail_for_the_user(*, tracker):
    raise ConfigError("the embedding is too wide", where="[autoencoder]", remedy="make it narrower")

def fail(*, tracker):
    print("before the fall", flush=True)
    raise ZeroDivisionError("by nought")

def crash(*, tracker):
    ctypes.string_at(0)

def leave(*, tracker):
    os._exit(3)

def unsendable(*, tracker):
    return lambda: None

def sleep(seconds, pid_file, *, tracker):
    with open(pid_file, "w") as stream:
        stream.write(str(os.getpid()))
    tracker.note("asleep")
    time.sleep(seconds)
    return "awake"
"""


class Heard(NullTracker):
    def __init__(self, on_note: Callable[[str], None] = lambda text: None) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.on_note = on_note

    def params(self, values: Any) -> None:
        self.events.append(("params", values))

    def epoch(self, number: int, total: int, metrics: Any) -> None:
        self.events.append(("epoch", number, total, metrics))

    def note(self, text: str) -> None:
        self.events.append(("note", text))
        self.on_note(text)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "worker_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("worker_jobs", None)
    import worker_jobs  # type: ignore[import-not-found]

    return worker_jobs  # type: ignore[no-any-return]


def run(function: Callable[..., Any], *args: Any, tmp_path: Path, **options: Any) -> workers.ChildResult[Any]:
    settings: dict[str, Any] = {"name": "user autoencoder", "threads": 1, "tracker": NullTracker(), **options}
    return workers.run_in_child(function, *args, log=tmp_path / "logs" / "trainer.log", **settings)


def test_result_and_events_come_back_in_order(jobs: ModuleType, tmp_path: Path) -> None:
    heard = Heard()
    result = run(jobs.report, 2, tmp_path=tmp_path, tracker=heard)
    assert result.value["path"] == "somewhere"
    assert result.value["pid"] != os.getpid()
    assert heard.events == [
        ("params", {"size": 2}),
        ("epoch", 1, 2, {"loss": 1.0}),
        ("epoch", 2, 2, {"loss": 0.5}),
        ("note", "almost there"),
    ]
    assert not psutil.pid_exists(result.value["pid"])


def test_threads_are_limited_before_the_function_is_imported(jobs: ModuleType, tmp_path: Path) -> None:
    limits, torch_loaded = run(jobs.environment, tmp_path=tmp_path, threads=3).value
    assert set(limits.values()) == {"3"}
    assert not torch_loaded
    assert run(jobs.torch_threads, tmp_path=tmp_path, threads=1).value == 1


def test_peak_memory_is_the_childs_own(jobs: ModuleType, tmp_path: Path) -> None:
    ballast = bytearray(300 << 20)  # the parent's memory must not count
    small = run(jobs.hold, 1, tmp_path=tmp_path).peak_rss_bytes
    large = run(jobs.hold, 200, tmp_path=tmp_path).peak_rss_bytes
    assert small < 150 << 20 < len(ballast)
    assert 190 << 20 < large - small < 260 << 20


def test_an_error_for_the_user_arrives_as_it_was_raised(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[autoencoder\]: the embedding is too wide. Make it narrower."):
        run(jobs.fail_for_the_user, tmp_path=tmp_path)


def test_any_other_error_names_the_trainer_and_its_traceback_is_in_the_log(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the user autoencoder stopped with ZeroDivisionError: by nought") as caught:
        run(jobs.fail, tmp_path=tmp_path)
    log = Path(caught.value.where).read_text()
    assert "before the fall" in log
    assert "Traceback" in log
    assert "ZeroDivisionError: by nought" in log


def test_a_result_that_cannot_travel_is_an_error_not_a_hang(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="user autoencoder stopped with"):
        run(jobs.unsendable, tmp_path=tmp_path)


def test_a_child_that_leaves_without_a_word(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="exited with status 3 without a result"):
        run(jobs.leave, tmp_path=tmp_path)


def test_a_crash_in_native_code_names_its_signal(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the process of the user autoencoder was killed by SIGSEGV"):
        run(jobs.crash, tmp_path=tmp_path)


def test_a_killed_child_names_trainer_and_signal_and_leaves_its_sibling_whole(jobs: ModuleType, tmp_path: Path) -> None:
    victim, sibling = tmp_path / "victim", tmp_path / "sibling"
    asleep = Heard(lambda text: os.kill(int(victim.read_text()), signal.SIGKILL))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, jobs.sleep, 60, victim, tmp_path=tmp_path, tracker=asleep)
        second = pool.submit(run, jobs.sleep, 0.5, sibling, tmp_path=tmp_path, name="content CNN")
        with pytest.raises(TrainingError, match=r"process of the user autoencoder was killed by SIGKILL .*memory"):
            first.result()
        assert second.result().value == "awake"


def test_stop_children_ends_what_runs(jobs: ModuleType, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        run(jobs.sleep, 60, tmp_path / "pid", tmp_path=tmp_path, tracker=Heard(lambda text: workers.stop_children()))
    assert time.monotonic() - began < 20


def test_a_listener_that_fails_takes_the_child_with_it(jobs: ModuleType, tmp_path: Path) -> None:
    def refuse(text: str) -> None:
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="the terminal is gone"):
        run(jobs.sleep, 60, tmp_path / "pid", tmp_path=tmp_path, tracker=Heard(refuse))
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_no_orphan_outlives_a_killed_parent(jobs: ModuleType, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        import worker_jobs
        from pathlib import Path
        from recsys.tracker import NullTracker
        from recsys.workers import run_in_child
        run_in_child(worker_jobs.sleep, 60, {str(pid_file)!r}, name="x", threads=1, tracker=NullTracker(),
                     log=Path({str(tmp_path / "log")!r}))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    orphan = _wait_for_pid(pid_file)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(orphan) and psutil.Process(orphan).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def _wait_for_pid(pid_file: Path) -> int:
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline, "the child never started"
        time.sleep(0.05)
    return int(pid_file.read_text())


@pytest.mark.parametrize(
    ("job", "args", "kinds"),
    [("report", (1,), ["params", "epoch", "note", "done"]), ("fail", (), ["raised"]),
     ("fail_for_the_user", (), ["failed"])],
)  # fmt: skip
def test_serve_answers_each_outcome(jobs: ModuleType, job: str, args: tuple[int, ...], kinds: list[str]) -> None:
    import pickle

    ours, theirs = Pipe(duplex=False)
    answering = threading.Thread(
        target=workers.serve, args=(pickle.dumps((getattr(jobs, job), args, {})), theirs), daemon=True
    )
    answering.start()
    assert [pickle.loads(ours.recv_bytes())[0] for _ in kinds] == kinds
    answering.join()
