from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ArtefactError
from recsys.histories import Histories
from recsys.models.baselines import Ials, ItemKnn, Popularity, RecentPopularity

ROWS = [[0, 1, 2], [2, 1], [3, 0, 1, 4], [4, 3], [1, 4, 0], [2, 0]]
DAY = 86_400_000_000


@pytest.mark.parametrize("model", [Popularity, RecentPopularity])
@pytest.mark.parametrize("ordered", [True, False])
def test_popularities_are_scorers(check_scorer, model, ordered):
    check_scorer(lambda histories, seed: model.fit(histories), ordered=ordered, learns=False)


@pytest.mark.parametrize("ordered", [True, False])
def test_item_knn_is_a_scorer(check_scorer, ordered):
    check_scorer(lambda histories, seed: ItemKnn.fit(histories, neighbours=12, shrinkage=1.0), ordered=ordered)


def test_item_knn_with_recency_is_a_scorer(check_scorer):
    check_scorer(lambda histories, seed: ItemKnn.fit(histories, neighbours=12, shrinkage=1.0, tau=4.0))


@pytest.mark.parametrize("tau", [None, 4.0])
def test_ials_is_a_scorer(check_scorer, tau):
    def fit(histories, seed):
        return Ials.fit(histories, embedding_size=12, l2=3.0, alpha=2.0, tau=tau, seed=seed)

    check_scorer(fit)


def test_popularity_counts_positives_only():
    histories = Histories.of_lists(ROWS, 6)
    mixed = Histories(histories.indptr, histories.item_nums, histories.ratings, histories.item_nums != 0, None, 6)
    np.testing.assert_allclose(Popularity.fit(mixed).popularity, np.array([0, 4, 3, 2, 3, 0]) / 4)


def test_recent_popularity_halves_with_age():
    times = np.array([0, 100, 90, 100], np.int64) * DAY
    histories = Histories(
        np.array([0, 2, 4]),
        np.array([0, 1, 2, 1], np.int32),
        np.full(4, np.nan, np.float32),
        np.ones(4, bool),
        times,
        4,
    )
    scores = RecentPopularity.fit(histories, half_life=0.1).popularity
    np.testing.assert_allclose(scores, np.array([2**-10, 2, 0.5, 0]) / 2, atol=1e-5)


def test_item_knn_by_hand():
    histories = Histories.of_lists([[0, 1], [0, 1], [0, 2], [1]], 3, ordered=False)
    model = ItemKnn.fit(histories, neighbours=2, shrinkage=1.0)
    together = 2 / (3 + 1)  # 0 and 1: √(3·3) + 1
    expected = [[0, together, 1 / (np.sqrt(3) + 1)], [together, 0, 0], [1 / (np.sqrt(3) + 1), 0, 0]]
    np.testing.assert_allclose(model.similarity.toarray(), expected, atol=1e-6)


def test_item_knn_keeps_the_nearest_of_each_title_scored():
    model = ItemKnn.fit(
        Histories.of_lists([[0, 1], [0, 1], [0, 2], [1]], 3, ordered=False), neighbours=1, shrinkage=1.0
    )
    assert model.similarity.toarray()[:, 0].nonzero()[0].tolist() == [1]
    assert model.similarity.toarray()[:, 2].nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("tau", [None, 2.0])
def test_ials_folds_users_in_exactly(tau):
    """Against the normal equations, user by user, in double precision."""
    histories = Histories.of_lists([*ROWS, [], list(range(5))], 6)
    model = Ials.fit(histories, embedding_size=3, l2=0.5, alpha=4.0, tau=tau, seed=1)
    y = np.zeros((6, 3))
    y[model.item_nums] = model.factors
    for user in range(histories.n_users):
        row = histories.item_nums[histories.row(user)]
        age = np.arange(len(row))[::-1]
        confidence = np.ones(6)
        confidence[row] = 1 + 3 * (np.exp(-age / tau) if tau else 1.0)
        liked = np.isin(np.arange(6), row)
        left = (y * confidence[:, None]).T @ y + 0.5 * np.eye(3)
        expected = np.linalg.solve(left, (y * confidence[:, None]).T @ liked)
        np.testing.assert_allclose(model.users(histories)[user], expected, rtol=1e-3, atol=1e-4)


def test_ials_seeds_differ():
    histories = Histories.of_lists(ROWS, 5)
    first, second = (Ials.fit(histories, embedding_size=2, seed=seed) for seed in (1, 2))
    assert not np.allclose(first.factors, second.factors)


@pytest.mark.parametrize("model", [Popularity, RecentPopularity, ItemKnn, Ials])
def test_nothing_liked_at_all(model):
    histories = Histories.of_lists([[], []], 4)
    np.testing.assert_array_equal(model.fit(histories).scores(histories), np.zeros((2, 4), np.float32))


def test_a_model_of_another_kind_or_a_damaged_one_is_refused(tmp_path):
    Popularity.fit(Histories.of_lists(ROWS, 5)).save(tmp_path)
    with pytest.raises(ArtefactError, match="holds a Popularity model, not a Ials"):
        Ials.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Popularity.load(tmp_path)
