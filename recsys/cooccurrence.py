"""What closed-form models count: popularity, covered titles, and how often titles meet in a history."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.histories import Bools, Floats, Histories, Ints

_DENSE_FROM = 0.02
_BLOCK = 2048


def counts(histories: Histories) -> Floats:
    """Interactions per title, [n_items]."""
    return np.bincount(histories.item_nums, minlength=histories.n_items).astype(np.float32)


def popularity_share(histories: Histories) -> Floats:
    """Popularity in [0, 1], [n_items]: interactions relative to the most popular title's."""
    values = counts(histories)
    return values / max(float(values.max(initial=0.0)), 1.0)


def covered_titles(histories: Histories, max_items: int) -> Ints:
    """The ``max_items`` most popular titles that have interactions, ascending; ties by item number."""
    values = counts(histories)
    best = np.argsort(-values, kind="stable")[:max_items]
    return np.sort(best[values[best] > 0]).astype(np.int32)


def known_users(histories: Histories, item_nums: Ints) -> Bools:
    """Whether a user's history holds any of the titles, [n_users]."""
    covered = np.zeros(histories.n_items, np.bool_)
    covered[item_nums] = True
    known = np.zeros(histories.n_users, np.bool_)
    known[histories.user_nums[covered[histories.item_nums]]] = True
    return known


def gram(matrix: sparse.csr_matrix) -> Floats:
    """XᵀX of a users × titles matrix, dense [n_titles, n_titles] float32."""
    n_users, n_titles = matrix.shape
    if matrix.nnz < _DENSE_FROM * n_users * n_titles:
        return np.asarray((matrix.T @ matrix).todense(), dtype=np.float32)
    total = np.zeros((n_titles, n_titles), np.float32)
    for start in range(0, n_users, _BLOCK):  # dense blocks are faster than sparse products where rows are long
        block = matrix[start : start + _BLOCK].toarray()
        total += block.T @ block
    return total
