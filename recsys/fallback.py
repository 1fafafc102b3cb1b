"""Lists for users whom no model knows well enough: the less of them is known, the more popularity counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys import columns
from recsys.histories import Floats, Histories

RECENT_SHARE = 0.2
"""Share of the newest interactions that makes "now"."""
PRIOR = 20.0
"""Positive interactions that popularity counts for, beside what the model says of a user."""


def popularity_now(histories: Histories) -> Floats:
    """How popular every title is now, [n_items]: positives among the newest interactions, then positives at all."""
    weights = np.where(histories.positive, 0.01, 0.0)
    if histories.timestamps is not None and len(histories.timestamps):
        since = np.quantile(histories.timestamps, 1 - RECENT_SHARE)
        weights = weights + (histories.positive & (histories.timestamps >= since))
    counts = np.bincount(histories.item_nums, weights=weights, minlength=histories.n_items)
    return counts.astype(np.float32)


def genre_matrix(titles: pa.Table) -> sparse.csr_matrix:
    """Titles × genres, [n_items, n_genres], ones."""
    return list_matrix(titles, columns.GENRES)


def list_matrix(titles: pa.Table, *names: str) -> sparse.csr_matrix:
    """Titles × distinct values of list columns, [n_items, n_values], ones (a value of two columns is two values)."""
    vocabulary: dict[tuple[str, str], int] = {}
    rows: list[int] = []
    places: list[int] = []
    for name in names:
        for row, values in enumerate(titles[name].to_pylist()):
            for value in dict.fromkeys(values or ()):
                rows.append(row)
                places.append(vocabulary.setdefault((name, value), len(vocabulary)))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, places)), (titles.num_rows, len(vocabulary)))


class Fallback:
    """Scores titles for users of whom little or nothing is known."""

    def __init__(self, popularity: Floats, genres: sparse.csr_matrix, likes: Floats) -> None:
        """Take what titles are like.

        Args:
            popularity: [n_items] how popular each is now.
            genres: [n_items, n_genres]
            likes: [n_items] positive interactions at all.
        """
        order = np.lexsort((np.arange(len(popularity)), popularity))
        standing = np.empty(len(popularity), np.float32)
        standing[order] = np.arange(1, len(popularity) + 1, dtype=np.float32) / (len(popularity) + 1)
        self._standing = standing  # in (0, 1), higher is more popular
        self._genres = genres
        self._prior = _zscores(np.log1p(likes)[None, :])

    def leaning(self, scores: Floats, histories: Histories) -> Floats:
        """A model's scores leaning on popularity: z-scores of both, n to :data:`PRIOR`, for n positive interactions.

        With a rating or five, no model finds what popularity does (docs/benchmarks.md, new users); leaning on it, the
        model is never much worse, and soon better.

        Args:
            scores: [n_users, n_items] of the model.
            histories: of the same users.
        """
        liked = histories.positives().lengths[:, None]
        share = (liked / (liked + PRIOR)).astype(np.float32)
        return np.asarray(share * _zscores(scores) + (1 - share) * self._prior, np.float32)

    def scores(self, histories: Histories) -> Floats:
        """For users without anything to go by, [n_users, n_items]: titles of genres that they liked, the most popular
        now first, in (1, 2); then the others, in (0, 1).
        """
        liked = histories.positives().matrix() @ self._genres  # [n_users, n_genres]
        shares_genre = np.asarray((liked @ self._genres.T).todense() > 0, dtype=np.float32)
        return np.asarray(self._standing + shares_genre, dtype=np.float32)


def _zscores(scores: Floats) -> Floats:
    spread = scores.std(axis=1, keepdims=True)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9), np.float32)
