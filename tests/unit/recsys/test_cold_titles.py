"""Cold titles: held out whole, and their figures by hand and against the evaluation's own metrics."""

import numpy as np
import pytest

from recsys.cold_titles import cold_figures, draw_cold, users_of
from recsys.histories import Histories
from recsys.metrics import user_metrics


def histories(seed: int = 0, n_users: int = 40, n_items: int = 30) -> Histories:
    rng = np.random.default_rng(seed)
    return Histories.of_lists(
        [rng.permutation(n_items - 5)[: rng.integers(0, 12)].tolist() for _ in range(n_users)], n_items
    )


def test_a_cold_titles_interactions_are_nowhere_in_the_warm_histories() -> None:
    everything = histories()
    draw = draw_cold(everything, fraction=0.4, seed=3)
    cold = np.concatenate([draw.stop, draw.report])
    assert len(cold) == 10  # of 25 that somebody liked
    assert len(draw.stop) == 3
    assert not set(cold.tolist()) & set(draw.warm.item_nums.tolist())
    assert set(draw.liked.item_nums.tolist()) == set(cold.tolist())
    assert len(draw.warm.item_nums) + len(draw.liked.item_nums) == len(everything.item_nums)
    assert draw.warm.n_users == draw.liked.n_users == 40


def test_the_draw_hangs_on_the_seed_alone() -> None:
    first, again, other = (draw_cold(histories(), fraction=0.4, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.report, again.report)
    assert first.report.tolist() != other.report.tolist()


def test_users_of_titles() -> None:
    liked = Histories.of_lists([[0], [1, 2], [], [2]], 3)
    assert users_of(liked, np.array([2])).tolist() == [1, 3]


def test_figures_by_hand() -> None:
    liked = Histories.of_lists([[2, 9], [7], [0]], 10)  # the third likes none of the cold titles
    items = np.array([2, 7, 9])
    scores = np.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [1, 2, 3]])  # ranks 7, 9, 2
    figures = cold_figures(scores, liked, items)
    first = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert figures["ndcg_at_10"] == pytest.approx((first + 1) / 2)
    assert figures["recall_at_20"] == 1
    assert figures["users"] == 2


def test_figures_agree_with_the_evaluations_metrics() -> None:
    rng = np.random.default_rng(1)
    liked = histories(5, n_users=60, n_items=45)
    items = np.arange(45)
    scores = rng.random((60, 45))
    hits = np.zeros((60, 45), bool)
    for user in range(60):
        hits[user] = np.isin(np.argsort(-scores[user]), liked.item_nums[liked.row(user)])
    there = liked.lengths > 0
    expected = user_metrics(np.pad(hits[there], ((0, 0), (0, 55))), liked.lengths[there], (10, 20, 100))
    figures = cold_figures(scores, liked, items)
    for name in ("recall_at_20", "ndcg_at_10", "ndcg_at_100"):
        assert figures[name] == pytest.approx(float(expected[name].mean()), abs=1e-6)


def test_without_users_there_are_no_figures() -> None:
    figures = cold_figures(np.zeros((1, 2)), Histories.of_lists([[]], 4), np.array([0, 1]))
    assert np.isnan(figures["ndcg_at_10"])
    assert figures["users"] == 0


def test_of_very_many_users_some_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.cold_titles._MOST_USERS", 3)
    liked = Histories.of_lists([[0]] * 8 + [[]], 2)
    assert users_of(liked, np.array([0])).tolist() == [0, 3, 6]
