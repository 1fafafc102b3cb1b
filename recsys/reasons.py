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


_ENDINGS = ("", ", with some of the same cast", ", by the same director")


class Reasons:
    """Gives reasons in the space of similar titles (see :mod:`recsys.similar`)."""

    def __init__(self, titles: pa.Table, space: Floats) -> None:
        names = display_names(titles)
        phrases = [f"Because you watched {name}{ending}" for ending in _ENDINGS for name in names]
        self._phrases = pa.array([*phrases, POPULAR_NOW], pa.string())
        self._space = space
        self._directors = list_matrix(titles, columns.DIRECTORS)
        self._cast = list_matrix(titles, columns.CAST)

    def explain(self, items: Ints, histories: Histories, fallback: Bools) -> pa.Array:
        """Reasons for all lines of the lists ``items`` [n_users, n], list after list; where there is no line, none.

        ``fallback`` [n_users] marks the users whose list is popularity.
        """
        watched = _padded(histories.positives().last(NEWEST))  # [n_users, w]
        nearest, similarity = self._nearest(items, watched)
        lines = items != NO_ITEM
        told = lines & ~fallback[:, None] & (similarity >= NOTABLE_SIMILARITY)
        listed, near = items[told], nearest[told]
        ending = np.where(_shared(self._directors, listed, near), 2, _shared(self._cast, listed, near))
        phrase = np.full(items.shape, len(self._phrases) - 1, np.int64)
        phrase[told] = ending * len(self._space) + near
        return self._phrases.take(pa.array(phrase[lines]))

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


def _shared(matrix: sparse.csr_matrix, one: Ints, other: Ints) -> Bools:
    """Whether the rows ``one`` [n] and ``other`` [n] of a matrix of ones have a column in common, [n]."""
    return np.asarray(np.diff(matrix[one].multiply(matrix[other]).tocsr().indptr) > 0)


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
