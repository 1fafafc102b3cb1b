"""Which engine does the work: what can be said without a cluster (on one: tests/integration/test_ray.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys.config import ComputeConfig
from recsys.devices import available_cores
from recsys.errors import ConfigError, MarqueeError, TrainingError
from recsys.tracker import NullTracker
from recsys.two_stage_copies import Parts
from tasks import engines
from tasks.engines import ray_cluster

RAY = ComputeConfig(engine="ray", workers=3)


@pytest.fixture(autouse=True)
def ray_of_this_machine() -> None:
    """Ray is imported as for a cluster of our own: another test in this process may start one."""
    ray_cluster.library(local=True)


def test_ranks_are_in_a_name_only_where_they_are_in_the_bytes() -> None:
    assert engines.of_its_bytes(ComputeConfig()) == {}
    assert engines.of_its_bytes(ComputeConfig(engine="ray", workers=1)) == {}
    assert engines.of_its_bytes(RAY) == {"engine": "ray", "workers": 3}


def test_files_are_read_here_by_who_asks() -> None:
    assert engines.reader_of_files(ComputeConfig()) is None
    assert engines.reader_of_files(RAY) is not None


def test_ray_that_is_not_installed_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    with pytest.raises(ConfigError, match=r"Ray is not installed. Install it with `pip install .*marquee\[ray\]"):
        engines.train(RAY, print, name="x", threads=1, tracker=NullTracker(), log=tmp_path / "log")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere://x"])
def test_a_cluster_that_is_not_there_is_said_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match=r"\[compute\] ray_address: there is no Ray cluster at"):
        ray_cluster.connect(RAY.model_copy(update={"ray_address": address}))


def test_a_cluster_that_does_not_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)  # Ray's sockets lie in it, and their paths may have 107 bytes
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(MarqueeError, match="Ray could not start a cluster"):
        ray_cluster.connect(RAY)
    assert not list(deep.iterdir())


def test_threads_are_shared_between_workers() -> None:
    assert ray_cluster.threads_per_worker(ComputeConfig(workers=2, threads=8)) == 4
    assert ray_cluster.threads_per_worker(ComputeConfig(workers=64, threads=8)) == 1
    assert ray_cluster.threads_per_worker(ComputeConfig(workers=1)) == available_cores()
    assert ray_cluster.threads_per_worker(ComputeConfig(workers=4, ray_address="head:6379")) == 1


@pytest.fixture
def training() -> ModuleType:
    """``tasks.engines.ray_training``, which imports Ray."""
    from tasks.engines import ray_training

    return ray_training


def test_paths_leave_for_workers_in_full(training: ModuleType) -> None:
    here, absolute = Path.cwd(), training._absolute
    assert absolute(Path("x")) == here / "x"
    assert absolute(Parts(Path("a"), Path("/b"), Path("c"), 9)) == Parts(here / "a", Path("/b"), here / "c", 9)
    assert absolute("x") == "x"
    assert absolute(Parts) is Parts


def test_a_second_beginning_means_a_loss_unless_there_was_a_refusal(training: ModuleType) -> None:
    box = training._Mailbox()
    assert box.begin()
    box.put("note", "one")
    assert box.begin()
    assert box.take() == [("note", "one"), ("lost",)]
    box.put("failed", TrainingError("diverged"))
    assert not box.begin(), "it would only be refused again"
    assert [kind for kind, *_ in box.take()] == ["failed"]


def test_what_workers_say_is_handed_on(training: ModuleType) -> None:
    heard: list[Any] = []

    class Heard(NullTracker):
        def note(self, text: str) -> None:
            heard.append(text)

    letters = training._Letters("NCF", Heard())
    first, second = TrainingError("first"), TrainingError("second")
    letters.read([("note", "a"), ("lost",), ("peak", 3), ("peak", 4), ("done", "value")])
    letters.read([("failed", first), ("failed", second)])
    assert heard == ["a", "a process of the NCF was lost: new ones go on from its last checkpoint"]
    assert (letters.value, letters.done, letters.peak, letters.failure) == ("value", True, 7, first)
