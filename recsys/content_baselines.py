"""What text can do without a network: TF-IDF, its nearest neighbours, and ridge regressions in closed form.

The rivals that the content tower has to pass, and the ground it stands on. Titles are documents of tokens
(:mod:`recsys.data.text`); users are histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg, sparse

from recsys.data.text import PAD, Documents
from recsys.histories import Bools, Floats, Histories, Ints

PENALTIES = (1.0, 3.0, 10.0, 30.0)
"""Ridge penalties to choose from, on rows of length one."""


def inverse_document_frequency(documents: Documents) -> Floats:
    """log((1 + n) / (1 + titles with the token)) + 1 of every token, [n_tokens]; 0 for padding."""
    counts = _counts(documents)
    seen = np.bincount(counts.indices, minlength=documents.n_tokens)
    idf = np.log((1 + len(documents)) / (1 + seen)) + 1
    idf[PAD] = 0
    return idf.astype(np.float32)


def tfidf(documents: Documents, idf: Floats | None = None) -> sparse.csr_matrix:
    """TF-IDF rows of length one, [n_items, n_tokens]: (1 + log tf) · idf. ``idf`` defaults to the documents' own."""
    matrix = _counts(documents)
    matrix.data = (1 + np.log(matrix.data)).astype(np.float32)
    matrix = matrix @ sparse.diags(inverse_document_frequency(documents) if idf is None else idf)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags((1 / np.maximum(length, 1e-9)).astype(np.float32)) @ matrix)


def _counts(documents: Documents) -> sparse.csr_matrix:
    there = documents.tokens != PAD
    rows, _ = np.nonzero(there)
    cells = (np.ones(len(rows), np.float32), (rows, documents.tokens[there]))
    return sparse.coo_matrix(cells, shape=(len(documents), documents.n_tokens)).tocsr()  # equal cells add up


@dataclass(frozen=True)
class Ridge:
    """A ridge regression from features of titles to several targets."""

    weights: Floats
    """[n_features, n_targets]"""
    left_out: Floats
    """[n, n_targets] what the regression without a row would have said of that row: exact, not resampled."""
    penalty: float


def fit_ridges(features: sparse.csr_matrix, targets: Floats, penalties: Sequence[float] = PENALTIES) -> Iterator[Ridge]:
    """Fit with each penalty in turn.

    In the dual form, with n titles: A = (XXᵀ + λI)⁻¹, weights XᵀAY, and the left-out prediction of row i is
    y_i - (AY)_i / A_ii (Allen's PRESS, 1974).

    Args:
        features: [n, n_features], rows of length one or so.
        targets: [n, n_targets].
        penalties: λ of each.
    """
    gram = (features @ features.T).toarray().astype(np.float32)
    for penalty in penalties:
        inverse = inverse_of(gram, penalty)
        dual = inverse @ targets
        left_out = targets - dual / np.diag(inverse)[:, None]
        yield Ridge((features.T @ dual).astype(np.float32), left_out.astype(np.float32), penalty)


def inverse_of(gram: Floats, penalty: float) -> Floats:
    """(G + λI)⁻¹ of a positive semi-definite G, [n, n]."""
    shifted = gram.copy()
    np.fill_diagonal(shifted, shifted.diagonal() + penalty)
    factor, _ = linalg.lapack.spotrf(shifted, lower=True, overwrite_a=True)
    inverse, _ = linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse = np.tril(inverse)
    return np.asarray(inverse + np.tril(inverse, -1).T, np.float32)


def rated_titles(histories: Histories) -> Bools:
    """Which titles somebody liked, [n_items]."""
    return np.bincount(histories.positives().item_nums, minlength=histories.n_items) > 0


class TfidfNeighbours:
    """Scores a title by how near the liked titles of a history are among its nearest ones."""

    def __init__(self, neighbours: sparse.csr_matrix) -> None:
        self._neighbours = neighbours  # [n_items, n_items]: a title's nearest rated titles, by cosine

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return int(self._neighbours.shape[0])

    @classmethod
    def fit(cls, features: sparse.csr_matrix, rated: Bools, *, k: int = 100, block: int = 1_024) -> Self:
        """The ``k`` nearest rated titles of every title, by cosine of their rows of length one."""
        known = np.flatnonzero(rated).astype(np.int32)
        items = np.arange(features.shape[0], dtype=np.int32)
        pieces = [
            _nearest((features[some] @ features[known].T).toarray(), some, known, k)
            for some in np.array_split(items, max(1, -(-len(items) // block)))
        ]
        rows, nearest, values = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return cls(sparse.csr_matrix((values, (rows, nearest)), shape=(len(items), len(items))))

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]."""
        return np.asarray((histories.positives().matrix() @ self._neighbours.T).toarray(), np.float32)


def _nearest(similarity: Floats, items: Ints, known: Ints, k: int) -> tuple[Ints, Ints, Floats]:
    similarity[items[:, None] == known[None, :]] = -1  # no title is its own neighbour
    k = min(k, similarity.shape[1])
    places = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(similarity, places, axis=1)
    keep = values > 0
    rows = np.broadcast_to(items[:, None], places.shape)
    return rows[keep], known[places][keep], values[keep]


class TfidfRidge:
    """Each user's likes regressed on the titles' TF-IDF rows, in closed form.

    Inductive: with X the rated titles' rows and r a history's likes, scores = X_all Xᵀ(XXᵀ + λI)⁻¹ r.
    """

    def __init__(self, features: sparse.csr_matrix, known: Ints, inverse: Floats) -> None:
        self._features = features
        self._known = known
        self._inverse = inverse

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return int(self._features.shape[0])

    @classmethod
    def fit(cls, features: sparse.csr_matrix, rated: Bools, *, penalty: float = 10.0) -> Self:
        """Prepare for one penalty (the caller chooses it on titles held out)."""
        known = np.flatnonzero(rated).astype(np.int32)
        gram = (features[known] @ features[known].T).toarray().astype(np.float32)
        return cls(features, known, inverse_of(gram, penalty))

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]."""
        liked = histories.positives().matrix()[:, self._known].toarray()  # [n_users, n_known]
        profiles = (self._features[self._known].T @ (self._inverse @ liked.T)).astype(np.float32)
        return np.ascontiguousarray((self._features @ profiles).T, np.float32)  # [n_users, n_items]
