from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import TrainingError
from recsys.histories import Histories
from recsys.models.linear import Ease, EaseStatistics, OrderAwareRidge, RidgeStatistics

ROWS = [[0, 1, 2], [2, 1], [3, 0, 1, 4], [4, 3], [1, 4, 0], [2, 0]]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("row_power", [0.0, 0.25])
def test_ease_is_a_scorer(check_scorer, ordered, row_power):
    check_scorer(lambda histories, seed: Ease.fit(histories, l2=5.0, row_power=row_power), ordered=ordered)


def test_ease_with_recency_is_a_scorer(check_scorer):
    check_scorer(lambda histories, seed: Ease.fit(histories, l2=5.0, tau=6.0))


def test_ridge_is_a_scorer_that_knows_order(check_scorer):
    check_scorer(lambda histories, seed: OrderAwareRidge.fit(histories, l2=5.0), uses_order=True)


def test_a_transposed_matrix_does_not_pass(check_scorer):
    def transposed(histories, seed):
        ease = Ease.fit(histories, l2=5.0)
        return Ease(ease.weights.T.copy(), ease.item_nums, ease.popularity)

    with pytest.raises(AssertionError, match="not to their hub"):
        check_scorer(transposed)


def test_ease_minimises_its_objective():
    """Each column, against a ridge regression without that title, solved independently."""
    histories = Histories.of_lists(ROWS, 5)
    x = histories.matrix().toarray().astype(np.float64)
    weights = Ease.fit(histories, l2=0.7).weights
    for j in range(5):
        others = np.delete(np.arange(5), j)
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 0.7 * np.eye(4), a.T @ x[:, j])
        np.testing.assert_allclose(weights[others, j], expected, atol=1e-5)
        assert weights[j, j] == 0


def test_row_scaling_and_the_unit_of_regularisation():
    histories = Histories.of_lists([[0, 1, 2, 3], [1]], 5)
    statistics = EaseStatistics.of(histories, row_power=0.5)
    assert statistics.scale == pytest.approx((4 * 0.25 + 1) / 5)
    x = np.array([[0.5, 0.5, 0.5, 0.5], [0, 1, 0, 0]])
    np.testing.assert_allclose(statistics.gram, x.T @ x, atol=1e-6)
    assert statistics.item_nums.tolist() == [0, 1, 2, 3]


def test_ease_reads_positives_only_and_weighs_them_by_recency():
    histories = Histories.of_lists(ROWS, 5)
    mixed = Histories(
        histories.indptr, histories.item_nums, histories.ratings, histories.item_nums != 1, histories.timestamps, 5
    )
    ease = Ease.fit(mixed, l2=1.0, tau=2.0)
    assert 1 not in ease.item_nums
    x = np.zeros(5)
    x[0], x[2] = np.exp(-1 / 2), 1.0  # [0, 1, 2] less the disliked 1
    np.testing.assert_allclose(ease.scores(mixed)[0, ease.item_nums], x[ease.item_nums] @ ease.weights, atol=1e-6)


def test_titles_beyond_max_items_rank_last_by_popularity():
    rows = [[0, 1]] * 9 + [[2, 0]] * 3 + [[3, 1]] * 2 + [[4]]
    ease = Ease.fit(Histories.of_lists(rows, 6), l2=1.0, max_items=2)
    scores = ease.scores(Histories.of_lists([[0], [1], [4]], 6))
    assert (scores[:2, :2].min(axis=1) > scores[:2, 2:].max(axis=1)).all()
    assert (np.diff(scores[:2, 2:], axis=1) < 0).all()
    assert scores[2].argsort()[::-1][:2].tolist() == [0, 1]  # nothing covered: popularity


def _ridge_by_definition(rows, n_items, tau, window, horizon, decay, disliked=()):
    xx, xy = np.zeros((n_items, n_items)), np.zeros((n_items, n_items))
    for row in rows:
        for t in range(len(row) - 1):
            x, y = np.zeros(n_items), np.zeros(n_items)
            for age in range(min(window, t + 1)):
                x[row[t - age]] = np.exp(-age / tau)
            for lag in range(1, min(horizon, len(row) - 1 - t) + 1):
                y[row[t + lag]] = decay ** (lag - 1) * (row[t + lag] not in disliked)
            xx += np.outer(x, x)
            xy += np.outer(x, y)
    return xx, xy


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.lists(st.integers(0, 11), max_size=12, unique=True), min_size=1, max_size=6),
    tau=st.floats(0.5, 20),
    window=st.integers(1, 6),
    horizon=st.integers(1, 6),
    disliked=st.sets(st.integers(0, 11)),
)
def test_ridge_statistics_are_those_of_the_definition(rows, tau, window, horizon, disliked):
    histories = Histories.of_lists(rows, 12)
    histories = replace(histories, positive=~np.isin(histories.item_nums, list(disliked)))
    statistics = RidgeStatistics.of(histories, tau=tau, window=window, horizon=horizon, decay=0.9)
    xx, xy = _ridge_by_definition(rows, 12, tau, window, horizon, 0.9, disliked)
    keep = np.ix_(statistics.item_nums, statistics.item_nums)
    np.testing.assert_allclose(statistics.xx, xx[keep], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.xy, xy[keep], rtol=1e-4, atol=1e-5)


def test_ridge_solves_its_normal_equations():
    histories = Histories.of_lists(ROWS, 5)
    xx, xy = _ridge_by_definition(ROWS, 5, 8.0, 25, 20, 0.9)
    ridge = OrderAwareRidge.fit(histories, l2=2.0)
    np.testing.assert_allclose(ridge.weights, np.linalg.solve(xx + 2 * np.eye(5), xy), atol=1e-5)
    x = np.zeros(5)
    x[[3, 0]] = np.exp(-1 / 8), 1.0
    np.testing.assert_allclose(ridge.scores(Histories.of_lists([[3, 0]], 5))[0], x @ ridge.weights, atol=1e-6)


def test_ridge_refuses_histories_without_order():
    with pytest.raises(TrainingError, match="needs timestamps"):
        OrderAwareRidge.fit(Histories.of_lists(ROWS, 5, ordered=False))


def test_no_regularisation_on_dependent_titles_is_refused():
    with pytest.raises(TrainingError, match="Raise the regularisation"):
        Ease.fit(Histories.of_lists([[0, 1]] * 3, 2), l2=0.0)


@pytest.mark.parametrize("model", [Ease, OrderAwareRidge])
def test_nothing_liked_at_all(model):
    histories = Histories.of_lists([[], []], 4)
    np.testing.assert_array_equal(model.fit(histories).scores(histories), np.zeros((2, 4), np.float32))


def test_ridge_statistics_do_not_depend_on_the_blocks(monkeypatch):
    histories = Histories.of_lists(ROWS * 4, 6)
    whole = RidgeStatistics.of(histories)
    monkeypatch.setattr("recsys.models.linear._BLOCK", 10)
    blocks = RidgeStatistics.of(histories)
    np.testing.assert_allclose(blocks.xx, whole.xx, rtol=1e-5)
    np.testing.assert_allclose(blocks.xy, whole.xy, rtol=1e-5)
    np.testing.assert_array_equal(whole.xx, whole.xx.T)


def test_the_inverse_is_filled_block_by_block(monkeypatch):
    histories = Histories.of_lists(ROWS, 5)
    whole = Ease.fit(histories, l2=1.0).weights
    monkeypatch.setattr("recsys.models.linear._ROWS", 2)
    np.testing.assert_array_equal(Ease.fit(histories, l2=1.0).weights, whole)
