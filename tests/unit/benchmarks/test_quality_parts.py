"""What the quality benchmark does to splits and figures, on cases worked out by hand. No training of any size."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.quality import sources
from benchmarks.quality.ablation import without_order, without_text
from benchmarks.quality.bag import cold_per_user
from benchmarks.quality.bench import Bench, together
from benchmarks.quality.cold import HELD_BACK, hold_back, pooled
from benchmarks.quality.new_users import after_the_first, first, hold_out_users
from benchmarks.quality.refit import is_later, without_later
from benchmarks.quality.replay import arrive, arriving
from recsys import columns
from recsys.cold_titles import cold_figures, draw_cold
from recsys.data.ids import IdMap
from recsys.data.split import TEST, TRAIN, VALIDATION, Split, align_titles
from recsys.histories import Histories

N_USERS, N_ITEMS = 40, 60


@pytest.fixture
def split() -> Split:
    """Forty users of ten ratings each, in time: six in train, two in validation, two in test."""
    rng = np.random.default_rng(0)
    histories = Histories.of_lists([list(rng.permutation(N_ITEMS)[:10]) for _ in range(N_USERS)], N_ITEMS)
    part = np.tile(np.repeat([TRAIN, VALIDATION, TEST], [6, 2, 2]), N_USERS).astype(np.int8)
    users, items = (IdMap.of(pa.array([f"{n:03}" for n in range(count)])) for count in (N_USERS, N_ITEMS))
    titles = align_titles(columns.TITLES.empty_table(), items)
    return Split(users, items, histories, part, titles, "per-user-temporal")


def pairs(histories: Histories) -> set[tuple[int, int]]:
    return set(zip(histories.user_nums.tolist(), histories.item_nums.tolist(), strict=True))


def test_without_order_every_window_holds_the_same_interactions(split: Split) -> None:
    changed = without_order(split)
    assert not changed.interactions.ordered
    for part in (TRAIN, VALIDATION, TEST):
        assert pairs(changed.upto(part)) == pairs(split.upto(part))
        assert pairs(changed.targets(part)) == pairs(split.targets(part))


def test_without_text_nothing_is_told_of_any_title() -> None:
    row = {columns.ITEM_ID: "1", columns.TITLE: "T", columns.YEAR: 1999, columns.GENRES: ["a"], columns.PLOT: "p"}
    blank = without_text(pa.Table.from_pylist([row], schema=columns.TITLES)).to_pylist()[0]
    assert (blank[columns.YEAR], blank[columns.GENRES], blank[columns.PLOT]) == (None, [], None)
    assert blank[columns.ITEM_ID] == "1"


def test_cold_titles_are_in_no_window_that_anything_is_fitted_on(split: Split) -> None:
    draw = draw_cold(split.interactions, fraction=0.1, seed=2)
    changed = hold_back(split, draw=2)
    gone = {*draw.stop.tolist(), *draw.report.tolist()}
    assert gone
    assert not gone & set(changed.upto(TEST).item_nums.tolist())
    assert pairs(changed.upto(VALIDATION)) == pairs(draw.warm)
    assert set(np.unique(changed.part)) == {TRAIN, VALIDATION, HELD_BACK}


def test_figures_by_user_average_to_the_figures_of_cold_titles() -> None:
    rng = np.random.default_rng(1)
    liked = Histories.of_lists([[1, 3], [2], [], [5, 6, 7]], 8, ordered=False)
    items = np.array([1, 2, 3, 6], np.int32)
    scores = rng.random((4, 4)).astype(np.float32)
    found, means = cold_per_user(scores, liked, items), cold_figures(scores, liked, items)
    assert np.isnan(found["ndcg_at_10"]).tolist() == [False, False, True, False]
    assert np.nanmean(found["ndcg_at_10"]) == pytest.approx(means["ndcg_at_10"], abs=1e-6)
    assert np.nanmean(found["recall_at_20"]) == pytest.approx(means["recall_at_20"], abs=1e-6)


def test_draws_are_pooled_user_by_user() -> None:
    def draw(users: list[int], tower: list[float]) -> dict[str, object]:
        own = {"recall_at_20": tower, "ndcg_at_10": tower}
        half = {metric: [value / 2 for value in values] for metric, values in own.items()}
        none = {metric: [0.0] * len(users) for metric in own}
        return {
            "users": users,
            "titles": 3,
            "figures": {"content_cnn": own, "ridge_interactions": half, "ridge_decoder": none},
        }

    found = pooled([draw([3, 5], [1.0, 0.5]), draw([5, 9], [0.1, 0.4])], seed=0)
    tower = found["models"]["content_cnn"]["recall_at_20"]
    assert found["users"] == 3
    assert tower["interval"]["mean"] == pytest.approx((1.0 + 0.3 + 0.4) / 3)
    assert found["best_ridge"]["recall_at_20"] == "ridge_interactions"
    assert tower["ratio"] == pytest.approx(2.0)


def test_held_out_users_are_in_no_window_and_what_is_foretold_stays_the_same(split: Split) -> None:
    changed = hold_out_users(split)
    away = np.unique(changed.interactions.user_nums[changed.part == HELD_BACK])
    assert len(away) == N_USERS // 4
    assert not set(away.tolist()) & set(changed.upto(TEST).user_nums.tolist())
    assert changed.fit.lengths.tolist() == [0 if user in away else 10 for user in range(N_USERS)]
    histories = split.interactions.select(away)
    assert (first(histories, 3).lengths == 3).all()
    assert pairs(first(histories, 4)) | pairs(after_the_first(histories, 4)) == pairs(histories)


def test_nothing_is_known_of_arriving_titles_before_they_arrive(split: Split) -> None:
    new, changed = arriving(split, 1), arrive(split, draw=1)
    assert new.sum() == 6
    assert not new[changed.known(TEST).item_nums].any()
    assert pairs(changed.targets(TEST)) == pairs(split.targets(TEST))
    assert (arriving(split, 2) != new).any()


def test_the_last_tenth_is_kept_from_the_night(split: Split) -> None:
    night = without_later(split)
    assert is_later(split).sum() == N_USERS
    assert (night.interactions.lengths == 9).all()
    assert [int((night.part[:9] == part).sum()) for part in (TRAIN, VALIDATION, TEST)] == [7, 1, 1]
    assert pairs(night.interactions) == pairs(split.interactions.where(~is_later(split)))


def test_the_fingerprint_is_of_the_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(text: str, other: str = "X = 1\n") -> str:
        (tmp_path / "recsys").mkdir(exist_ok=True)
        (tmp_path / "recsys" / "a.py").write_text(text)
        (tmp_path / "recsys" / "b.py").write_text(other)
        sources._read.cache_clear()
        return sources.fingerprint("recsys.a")

    monkeypatch.setattr(sources, "ROOT", tmp_path)
    code = '"""Says something."""\nfrom recsys.b import X\n\n\ndef f():\n    """Says more."""\n    return X\n'
    plain = of(code)
    assert of(code.replace("Says", "Tells").replace("    return X", "    # why\n    return X")) == plain
    assert of(code.replace("return X", "return X + 1")) != plain
    assert of(code, other="X = 2\n") != plain
    sources._read.cache_clear()


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    bench = Bench(home=tmp_path, given=tmp_path, slots=threading.Semaphore(1), say=lambda text: None)
    first_time = bench.measured("x", {"a": 1}, counted, str(tmp_path))
    assert bench.measured("x", {"a": 1}, counted, str(tmp_path)) == first_time == {"calls": 1}
    assert bench.measured("x", {"a": 2}, counted, str(tmp_path)) == {"calls": 2}


def test_all_run_to_their_end_before_a_failure_is_raised() -> None:
    done = []

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together(fails, lambda: done.append(1))
    assert done == [1]


def counted(folder: str, *, tracker: object) -> dict[str, int]:
    """How often it was called, over all processes."""
    path = Path(folder) / "calls"
    calls = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(calls))
    return {"calls": calls}
