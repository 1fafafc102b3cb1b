from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys import columns
from recsys.candidates import Fitted, measure_candidates
from recsys.data.ids import IdMap
from recsys.data.split import Split
from recsys.evaluation import Evaluation
from recsys.histories import Histories
from recsys.models.baselines import Popularity
from recsys.tracker import NullTracker


@pytest.fixture
def split(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    histories = Histories.of_lists([rng.permutation(20)[:10].tolist() for _ in range(30)], 20)
    part = np.tile(np.array([0] * 6 + [1] * 2 + [2] * 2, np.int8), 30)
    users, items = (IdMap.of([f"{kind}{n:02d}" for n in range(count)]) for kind, count in (("u", 30), ("i", 20)))
    Split(users, items, histories, part, columns.TITLES.empty_table(), "per-user-temporal").save(tmp_path / "split")
    return tmp_path / "split"


@pytest.fixture
def fitted(split: Path) -> list[Fitted]:
    model = Popularity.fit(Split.load(split).fit)
    for name in ("a", "b", "c"):
        model.save(split.parent / name)
    return [(name, "popularity", split.parent / name) for name in ("a", "b", "c")]


def test_every_model_meets_the_same_users(split: Path, fitted: list[Fitted], tmp_path: Path) -> None:
    metrics = measure_candidates(split, fitted, tmp_path / "out", users=1_000, tracker=NullTracker())
    assert metrics["a"] == metrics["b"] == metrics["c"]
    assert len(Evaluation.load(tmp_path / "out" / "a").users) == 30


def test_of_many_users_some_are_measured_evenly_spaced(split: Path, fitted: list[Fitted], tmp_path: Path) -> None:
    measure_candidates(split, fitted[:1], tmp_path / "out", users=4, tracker=NullTracker())
    assert Evaluation.load(tmp_path / "out" / "a").users.tolist() == [0, 9, 19, 29]


def test_what_was_measured_before_a_kill_is_not_measured_again(
    split: Path, fitted: list[Fitted], tmp_path: Path
) -> None:
    class Kill(NullTracker):
        def epoch(self, number: int, total: int, metrics: object) -> None:
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_candidates(split, fitted, tmp_path / "out", users=9, tracker=Kill())
    made = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert set(made) == {"a", "b"}
    metrics = measure_candidates(split, fitted, tmp_path / "out", users=9, tracker=NullTracker())
    assert list(metrics) == ["a", "b", "c"]
    after = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert {name: after[name] for name in made} == made
