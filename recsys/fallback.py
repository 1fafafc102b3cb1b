"""Lists for users whom no model knows well enough: popular within their taste, then popular."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys import columns
from recsys.histories import Floats, Histories

RECENT_SHARE = 0.2
"""Share of the newest interactions that makes "now"."""


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
    """Scores titles by popularity now; titles that share a genre with what the user liked come first."""

    def __init__(self, popularity: Floats, genres: sparse.csr_matrix) -> None:
        order = np.lexsort((np.arange(len(popularity)), popularity))
        standing = np.empty(len(popularity), np.float32)
        standing[order] = np.arange(1, len(popularity) + 1, dtype=np.float32) / (len(popularity) + 1)
        self._standing = standing  # in (0, 1), higher is more popular
        self._genres = genres

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]: in (1, 2) within the user's taste, in (0, 1) outside."""
        liked = histories.positives().matrix() @ self._genres  # [n_users, n_genres]
        shares_genre = np.asarray((liked @ self._genres.T).todense() > 0, dtype=np.float32)
        return np.asarray(self._standing + shares_genre, dtype=np.float32)
