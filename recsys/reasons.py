"""A short reason for every line of a list: the nearest title that the user watched, people in common, or popularity."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys import columns
from recsys.catalogue import display_names
from recsys.histories import Bools, Floats, Histories, Ints
from recsys.topk import NO_ITEM

NEWEST = 50
"""Liked titles, newest first, that are looked at for a reason."""
POPULAR_NOW = "Popular now"
NOTABLE_SIMILARITY = 0.15
"""Below this, the nearest watched title is no reason."""


class Reasons:
    """Gives reasons in the space of similar titles (see :mod:`recsys.similar`)."""

    def __init__(self, titles: pa.Table, space: Floats) -> None:
        self._names = np.array(display_names(titles), dtype=object)
        self._space = space
        self._directors = list_matrix(titles, columns.DIRECTORS)
        self._cast = list_matrix(titles, columns.CAST)

    def explain(self, items: Ints, histories: Histories, fallback: Bools) -> list[list[str | None]]:
        """Reasons for the lists ``items`` [n_users, n]; None where there is no line.

        ``fallback`` [n_users] marks the users whose list is popularity.
        """
        watched = _padded(histories.positives().last(NEWEST))  # [n_users, w]
        nearest, similarity = self._nearest(items, watched)
        reasons: list[list[str | None]] = []
        for row, line in enumerate(items):
            reasons.append(
                [
                    None
                    if item == NO_ITEM
                    else POPULAR_NOW
                    if fallback[row] or similarity[row, place] < NOTABLE_SIMILARITY
                    else self._because(int(item), int(nearest[row, place]))
                    for place, item in enumerate(line)
                ]
            )
        return reasons

    def _nearest(self, items: Ints, watched: Ints) -> tuple[Ints, Floats]:
        if watched.shape[1] == 0:
            return np.full_like(items, NO_ITEM), np.full(items.shape, -np.inf, np.float32)
        listed = self._space[np.maximum(items, 0)]  # [n_users, n, d]
        seen = self._space[np.maximum(watched, 0)]  # [n_users, w, d]
        similarity = np.matmul(listed, seen.transpose(0, 2, 1))  # [n_users, n, w]
        similarity = np.where(watched[:, None, :] == NO_ITEM, -np.inf, similarity)
        best = similarity.argmax(axis=2)
        return (
            np.take_along_axis(watched, best, axis=1),
            np.take_along_axis(similarity, best[:, :, None], axis=2)[:, :, 0].astype(np.float32),
        )

    def _because(self, item: int, seen: int) -> str:
        if _share(self._directors, item, seen):
            return f"Because you watched {self._names[seen]}, by the same director"
        if _share(self._cast, item, seen):
            return f"Because you watched {self._names[seen]}, with some of the same cast"
        return f"Because you watched {self._names[seen]}"


def _share(matrix: sparse.csr_matrix, one: int, other: int) -> bool:
    first = matrix.indices[matrix.indptr[one] : matrix.indptr[one + 1]]
    second = matrix.indices[matrix.indptr[other] : matrix.indptr[other + 1]]
    return bool(len(first) and len(second) and np.isin(first, second).any())


def _padded(histories: Histories) -> Ints:
    lengths = histories.lengths
    width = int(lengths.max()) if len(lengths) else 0
    table = np.full((histories.n_users, width), NO_ITEM, np.int32)
    place = np.arange(len(histories.item_nums)) - np.repeat(histories.indptr[:-1], lengths)
    table[histories.user_nums, place] = histories.item_nums
    return table


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
