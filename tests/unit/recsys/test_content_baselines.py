"""TF-IDF by hand, and the closed forms against their definitions: scikit-free, numpy only."""

import numpy as np
import pytest
from scipy import sparse

from recsys.content_baselines import (
    TfidfNeighbours,
    TfidfRidge,
    fit_ridges,
    inverse_document_frequency,
    rated_titles,
    tfidf,
)
from recsys.data.text import Documents
from recsys.histories import Histories


def documents(*rows: list[int], n_tokens: int = 8) -> Documents:
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    return Documents(tokens, (tokens > 0).astype(np.int8), n_tokens)


def random_features(n: int = 12, width: int = 20, seed: int = 0) -> sparse.csr_matrix:
    dense = np.random.default_rng(seed).random((n, width)).astype(np.float32)
    dense[dense < 0.6] = 0
    dense[:, 0] += 0.1
    return sparse.csr_matrix(dense / np.linalg.norm(dense, axis=1, keepdims=True))


def test_tfidf_by_hand() -> None:
    told = documents([3, 3, 4], [4])
    idf = inverse_document_frequency(told)
    assert idf[0] == 0
    assert idf[3] == pytest.approx(np.log(3 / 2) + 1)
    assert idf[4] == pytest.approx(1.0)
    rows = tfidf(told).toarray()
    first = np.array([(1 + np.log(2)) * idf[3], idf[4]])
    np.testing.assert_allclose(rows[0, [3, 4]], first / np.linalg.norm(first), rtol=1e-6)
    np.testing.assert_allclose(rows[1], np.eye(8)[4])


def test_new_documents_are_weighed_by_the_old_frequencies() -> None:
    old = documents([3, 4], [4])
    new = tfidf(documents([3, 4], [3]), inverse_document_frequency(old)).toarray()
    np.testing.assert_allclose(new[0], tfidf(old).toarray()[0], rtol=1e-6)


def test_ridge_is_the_normal_equations_and_its_left_out_predictions_are_refits() -> None:
    features = random_features()
    targets = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    dense = features.toarray().astype(np.float64)
    for ridge, penalty in zip(fit_ridges(features, targets, (0.5, 2.0)), (0.5, 2.0), strict=True):
        expected = np.linalg.solve(dense.T @ dense + penalty * np.eye(20), dense.T @ targets)
        np.testing.assert_allclose(ridge.weights, expected, atol=1e-4)
        assert ridge.penalty == penalty
        for row in range(12):
            x, y = np.delete(dense, row, 0), np.delete(targets, row, 0)
            refit = np.linalg.solve(x.T @ x + penalty * np.eye(20), x.T @ y)
            np.testing.assert_allclose(ridge.left_out[row], dense[row] @ refit, atol=1e-4)


def test_neighbours_add_up_the_similarity_of_what_was_liked() -> None:
    features = random_features(6)
    rated = np.array([True, True, True, True, False, False])
    cosines = (features @ features.T).toarray()
    scores = TfidfNeighbours.fit(features, rated, k=6).scores(Histories.of_lists([[0, 1], []], 6))
    np.testing.assert_allclose(scores[0, 4], cosines[4, 0] + cosines[4, 1], rtol=1e-5)
    np.testing.assert_allclose(scores[0, 0], cosines[0, 1], rtol=1e-5)  # no title is its own neighbour
    assert (scores[1] == 0).all()


def test_only_the_nearest_neighbours_count_whatever_the_block() -> None:
    features = random_features(9)
    rated = np.ones(9, np.bool_)
    cosines = (features @ features.T).toarray()
    np.fill_diagonal(cosines, -1)
    nearest = int(cosines[5].argmax())
    histories = Histories.of_lists([[nearest], [int(cosines[5].argsort()[-2])]], 9)
    scores = TfidfNeighbours.fit(features, rated, k=1, block=2).scores(histories)
    assert scores[0, 5] == pytest.approx(cosines[5, nearest], rel=1e-5)
    assert scores[1, 5] == 0


def test_ridge_scores_are_each_users_own_regression() -> None:
    features = random_features(10)
    rated = np.arange(10) < 8
    rows = [[0, 3], [1, 2, 7], []]
    model = TfidfRidge.fit(features, rated, penalty=1.5)
    assert model.n_items == 10
    scores = model.scores(Histories.of_lists(rows, 10))
    dense = features.toarray().astype(np.float64)
    x = dense[:8]
    for user, row in enumerate(rows):
        likes = np.isin(np.arange(8), row).astype(float)
        taste = np.linalg.solve(x.T @ x + 1.5 * np.eye(20), x.T @ likes)
        np.testing.assert_allclose(scores[user], dense @ taste, atol=1e-4)


def test_rated_titles_are_the_liked_ones() -> None:
    histories = Histories.of_lists([[0, 2], [2]], 4)
    disliked = Histories(
        histories.indptr,
        histories.item_nums,
        histories.ratings,
        np.array([True, False, False]),
        histories.timestamps,
        4,
    )
    assert rated_titles(histories).tolist() == [True, False, True, False]
    assert rated_titles(disliked).tolist() == [True, False, False, False]
