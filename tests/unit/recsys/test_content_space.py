"""The closed-form ground of the content tower: factors, left-out rows, and spaces turned to match."""

import numpy as np
import pytest
from scipy import sparse

from recsys.content_space import fit_space, truncated_svd, user_vectors
from recsys.histories import Histories

N_ITEMS, N_TAGS = 48, 4


def world(seed: int = 0) -> tuple[Histories, sparse.csr_matrix]:
    """Titles with one of four tags (token 1…4) and a token of their own; users like titles of one tag each.

    The last of each tag (44…47) has no interactions. The tags are liked by different numbers of users.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for tag in range(N_TAGS):
        warm = np.arange(tag, N_ITEMS - N_TAGS, N_TAGS)
        rows += [rng.permutation(warm)[: rng.integers(4, 9)].tolist() for _ in range(10 + 10 * tag)]
    titles = np.arange(N_ITEMS)
    cells = (np.ones(2 * N_ITEMS), (np.tile(titles, 2), np.concatenate([1 + titles % N_TAGS, 5 + titles])))
    features = sparse.csr_matrix(cells, shape=(N_ITEMS, 5 + N_ITEMS), dtype=np.float32) / np.sqrt(2)
    return Histories.of_lists(rows, N_ITEMS), sparse.csr_matrix(features)


def test_truncated_svd_finds_the_leading_directions() -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((30, 5)) @ rng.standard_normal((5, 20))
    directions, values = truncated_svd(sparse.csr_matrix(dense.astype(np.float32)), 5, seed=1)
    np.testing.assert_allclose(values, np.linalg.svd(dense)[1][:5], rtol=1e-3)
    np.testing.assert_allclose(dense @ directions @ directions.T, dense, atol=1e-3)


def test_directions_beyond_the_rank_are_zero() -> None:
    directions, values = truncated_svd(sparse.csr_matrix(np.ones((3, 4), np.float32)), 6, seed=0)
    assert directions.shape == (4, 6)
    assert (directions[:, 3:] == 0).all()
    assert (values[3:] == 0).all()


def test_cold_titles_lie_where_their_text_says() -> None:
    histories, features = world()
    space = fit_space(histories, features, embedding_size=8, seed=0)
    users = user_vectors(histories, space.history_rows)
    scores = users @ space.title_rows[:, :-1].T + space.title_rows[:, -1]
    tags = np.repeat(np.arange(4), [10, 20, 30, 40])
    np.testing.assert_array_equal(scores[:, -N_TAGS:].argmax(axis=1), tags)


def test_a_warm_titles_row_does_not_know_its_own_interactions() -> None:
    """Titles whose text nobody shares: left out, nothing can be said of them, however much they are liked."""
    histories, _ = world()
    alone = sparse.csr_matrix(np.eye(N_ITEMS, dtype=np.float32))
    space = fit_space(histories, alone, embedding_size=8, seed=0)
    np.testing.assert_allclose(space.title_rows, 0, atol=1e-5)
    assert np.abs(space.weights).max() > 0.01


def test_popularity_is_read_off_text() -> None:
    histories, features = world()
    space = fit_space(histories, features, embedding_size=8, seed=0)
    rows = np.asarray(features @ space.weights)[-N_TAGS:, -1]
    assert (np.diff(rows) >= 0).all()  # the fourth tag has four times the users of the first


def test_history_rows_of_cold_titles_come_from_text() -> None:
    histories, features = world()
    space = fit_space(histories, features, embedding_size=8, seed=0)
    rows = space.history_rows
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit[-N_TAGS:] @ unit[:-N_TAGS].T  # [cold, warm]
    mean = np.stack([cosines[:, tag::N_TAGS].mean(axis=1) for tag in range(N_TAGS)], axis=1)
    np.testing.assert_array_equal(mean.argmax(axis=1), np.arange(N_TAGS))


def test_a_later_space_is_turned_to_match_the_earlier() -> None:
    histories, features = world()
    first = fit_space(histories, features, embedding_size=8, seed=0)
    loose = fit_space(histories.select(slice(0, 90)), features, embedding_size=8, seed=5)
    matched = fit_space(histories.select(slice(0, 90)), features, embedding_size=8, seed=5, like=first.history_rows)

    def distance(rows: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.linalg.norm(rows - first.history_rows) / np.linalg.norm(first.history_rows))

    assert distance(matched.history_rows) < 0.5 * distance(loose.history_rows)
    users = histories.select(slice(0, 90))
    kept = user_vectors(users, matched.history_rows) @ matched.title_rows[:, :-1].T
    np.testing.assert_allclose(kept, user_vectors(users, loose.history_rows) @ loose.title_rows[:, :-1].T, atol=1e-3)


def test_users_without_history_are_zero_and_others_of_one_size() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    vectors = user_vectors(Histories.of_lists([[], [1], [0, 2, 3]], 4), rows)
    assert (vectors[0] == 0).all()
    np.testing.assert_allclose(np.sqrt((vectors[1:] ** 2).mean(axis=1)), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[1] / np.linalg.norm(vectors[1]), rows[1] / np.linalg.norm(rows[1]), rtol=1e-5)


def test_only_the_most_liked_titles_are_fitted_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    histories, features = world()
    monkeypatch.setattr("recsys.content_space._MAX_TITLES", 16)
    space = fit_space(histories, features, embedding_size=8, seed=0)
    assert np.isfinite(space.title_rows).all()
    per_title = np.bincount(histories.item_nums, minlength=N_ITEMS)
    fitted = np.argsort(-per_title, kind="stable")[:16]
    others = np.setdiff1d(np.arange(N_ITEMS), fitted)
    np.testing.assert_allclose(space.title_rows[others], (features @ space.weights)[others], atol=1e-5)
    assert not np.allclose(space.title_rows[fitted], (features @ space.weights)[fitted], atol=1e-3)


def test_a_single_like_is_enough_not_to_fail() -> None:
    features = sparse.csr_matrix(np.eye(3, dtype=np.float32))
    space = fit_space(Histories.of_lists([[1], []], 3), features, embedding_size=4, seed=0)
    assert np.isfinite(space.title_rows).all()
    assert np.isfinite(space.history_rows).all()
