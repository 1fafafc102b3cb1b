"""The ground of the content tower, in closed form: a latent space of tastes, and a ridge from text into it.

Interactions are factorised (a truncated SVD); a user is the sum of the rows of the titles in the history; TF-IDF is
regressed on the titles' latent rows and log popularity. For titles with interactions the regression's leave-one-out
prediction is kept, so that what is learned on top sees warm titles exactly as it will see cold ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.special import logsumexp

from recsys.content_baselines import PENALTIES, Ridge, fit_ridges
from recsys.histories import Bools, Floats, Histories, Ints

_MAX_TITLES = 6_000  # of the ridge's dual form, a dense matrix of its square; the most liked ones are taken
_OVERSAMPLING, _ROUNDS = 16, 6
_TRIAL_USERS = 512
_USER_DAMPING, _TITLE_DAMPING = 0.5, 0.25
_SCALES = tuple((vector, popularity) for vector in (0.5, 1.0, 2.0, 4.0) for popularity in (0.0, 0.25, 0.5, 1.0))


@dataclass(frozen=True)
class ContentSpace:
    """A latent space, and where text says that titles lie in it."""

    history_rows: Floats
    """[n_items, d] what a title in a history adds to its user's vector."""
    title_rows: Floats
    """[n_items, d + 1] what text alone says of a title: its latent row, and last the logit of its popularity."""
    weights: Floats
    """[n_tokens, d + 1] from TF-IDF rows to title rows: for titles yet to come."""
    penalty: float
    """Of the ridge: it, and the sizes of vectors and popularity, rank best for users what was left out."""


def fit_space(
    histories: Histories,
    features: sparse.csr_matrix,
    *,
    embedding_size: int,
    seed: int,
    like: Floats | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> ContentSpace:
    """Fit the space on the likes of histories.

    Args:
        histories: of titles numbered as the rows of ``features``.
        features: TF-IDF rows of length one, [n_items, n_tokens].
        embedding_size: d; fewer directions than that are filled up with zeros.
        seed: of the factorisation's start and of the trial by which penalty and scales are chosen.
        like: ``history_rows`` of an older space over the same titles: the new one is turned to match it.
        penalties: to choose from.
    """
    d = embedding_size
    likes = histories.positives().matrix()
    per_title = np.asarray(likes.sum(axis=0)).ravel().astype(np.float32)
    rated = per_title > 0
    latent, history_rows = _factors(likes, per_title, d, seed)
    if like is not None:
        turn, _ = linalg.orthogonal_procrustes(history_rows, like * rated[:, None])
        latent, history_rows = latent @ turn, history_rows @ turn
    fitted = _most_liked(np.flatnonzero(rated).astype(np.int32), per_title)
    targets = np.concatenate([latent, np.log1p(per_title)[:, None], history_rows], axis=1)[fitted].astype(np.float32)
    targets[:, d] -= targets[:, d].mean()
    trial = _Trial.draw(likes, history_rows, fitted, seed)
    ridge, scales = trial.best(fit_ridges(features[fitted], targets, penalties), d)
    predicted = np.asarray(features @ ridge.weights, np.float32)
    predicted[fitted] = ridge.left_out
    return ContentSpace(
        history_rows=np.where(rated[:, None], history_rows, predicted[:, d + 1 :]).astype(np.float32),
        title_rows=(predicted[:, : d + 1] * scales).astype(np.float32),
        weights=(ridge.weights[:, : d + 1] * scales).astype(np.float32),
        penalty=ridge.penalty,
    )


def user_vectors(histories: Histories, history_rows: Floats) -> Floats:
    """[n_users, d] the sum of the rows of each history's likes, standardised; zero for an empty history."""
    return _standardised(np.asarray(histories.positives().matrix() @ history_rows, np.float32))


def _standardised(sums: Floats) -> Floats:
    length = np.sqrt((sums**2).mean(axis=1, keepdims=True))
    return (sums / np.where(length > 0, length, 1)).astype(np.float32)


def _most_liked(rated: Ints, per_title: Floats) -> Ints:
    if len(rated) <= _MAX_TITLES:
        return rated
    return np.sort(rated[np.argsort(-per_title[rated], kind="stable")[:_MAX_TITLES]])


def _factors(likes: sparse.csr_matrix, per_title: Floats, size: int, seed: int) -> tuple[Floats, Floats]:
    """Titles' latent rows and what they add to a user, [n_items, d] each: their product rebuilds a user's likes.

    The SVD is of likes scaled by n_user^-1/2 and n_title^-1/4, so that neither the busiest users nor the most popular
    titles take all of the directions.
    """
    per_user = np.asarray(likes.sum(axis=1)).ravel()
    damp = (per_title + 1) ** _TITLE_DAMPING
    scaled = sparse.diags((per_user + 1) ** -_USER_DAMPING) @ likes @ sparse.diags(1 / damp)
    directions, values = truncated_svd(sparse.csr_matrix(scaled.astype(np.float32)), size, seed)
    history_rows = directions / damp[:, None] * (per_title > 0)[:, None]
    return directions * values * damp[:, None], history_rows.astype(np.float32)


def truncated_svd(matrix: sparse.csr_matrix, size: int, seed: int) -> tuple[Floats, Floats]:
    """The leading right singular vectors [n_columns, size] and values [size] (Halko et al., 2011).

    Deterministic for a seed. Columns beyond the matrix's rank are zero.
    """
    rank = min(size, *matrix.shape)
    start = np.random.default_rng([seed, 0x5BD]).standard_normal(
        (matrix.shape[1], min(rank + _OVERSAMPLING, *matrix.shape))
    )
    basis = start.astype(np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(matrix.T @ (matrix @ basis))
    _, values, turn = np.linalg.svd(matrix @ basis, full_matrices=False)
    directions = np.zeros((matrix.shape[1], size), np.float32)
    directions[:, :rank] = (basis @ turn.T)[:, :rank]
    padded = np.zeros(size, np.float32)
    padded[:rank] = values[:rank]
    return directions, padded


@dataclass(frozen=True)
class _Trial:
    """Users whose histories are halved, to see how well titles' left-out rows rank the other half."""

    users: Floats
    """[n_users, d] vectors of the first halves."""
    given: Bools
    """[n_users, n_titles] the first halves: no candidates."""
    wanted: Floats
    """[n_users, n_titles] the second halves, each row weighing n^-1/2."""

    @classmethod
    def draw(cls, likes: sparse.csr_matrix, history_rows: Floats, titles: Ints, seed: int) -> _Trial:
        rng = np.random.default_rng([seed, 0x7A1])
        users = np.flatnonzero(np.diff(likes.indptr) >= 4)
        users = np.sort(rng.permutation(users)[:_TRIAL_USERS])
        rows = sparse.csr_matrix(likes[users])
        first = rows.copy()
        first.data = (rng.random(len(rows.data)) < 0.5).astype(np.float32)
        second = (rows - first)[:, titles].toarray()
        wanted = second / np.sqrt(np.maximum(second.sum(axis=1, keepdims=True), 1))
        return cls(_standardised(first @ history_rows), first[:, titles].toarray() > 0, wanted.astype(np.float32))

    def best(self, ridges: Iterable[Ridge], d: int) -> tuple[Ridge, Floats]:
        """The ridge, and by what its vectors [d] and popularity [1] are multiplied, with the least softmax loss."""
        found: tuple[float, Ridge, Floats] | None = None
        for ridge in ridges:
            vectors, popularity = self.users @ ridge.left_out[:, :d].T, ridge.left_out[:, d]
            unit = 1 / max(float(vectors.std()), 1e-9) if vectors.size else 1.0
            for vector_scale, popularity_scale in _SCALES:
                loss = self._loss(vectors * np.float32(vector_scale * unit) + popularity * np.float32(popularity_scale))
                if found is None or loss < found[0]:
                    scales = np.full(d + 1, vector_scale * unit, np.float32)
                    scales[d] = popularity_scale
                    found = loss, ridge, scales
        assert found is not None
        return found[1:]

    def _loss(self, logits: Floats) -> float:
        logits = np.where(self.given, np.float32(-1e9), logits)
        if not self.wanted.any():
            return 0.0
        chances = logits - logsumexp(logits, axis=1, keepdims=True)
        return float(-np.sum(chances * self.wanted, dtype=np.float64) / len(logits))
