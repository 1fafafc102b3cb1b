"""What closed-form models count: popularity, covered titles, and how often titles meet in a history."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from recsys.histories import Bools, Floats, Histories, Ints

_DENSE_FROM = 0.02
_BLOCK = 2048
_ROWS = 256


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


def sample_users(histories: Histories, most: int) -> Histories:
    """Evenly spaced users who have about ``most`` interactions together; all of them where there are not more."""
    n = len(histories.item_nums)
    if n <= most:
        return histories
    users = np.linspace(0, histories.n_users - 1, max(1, histories.n_users * most // n)).astype(np.int64)
    return histories.select(users)


def gram_blocks(matrix: sparse.csr_matrix) -> Iterator[sparse.csr_matrix]:
    """XᵀX of a users × titles matrix as sparse blocks of consecutive rows, [≤ 256, n_titles]: never whole in memory."""
    users_of = sparse.csr_matrix(matrix.T)
    for start in range(0, users_of.shape[0], _ROWS):
        yield users_of[start : start + _ROWS] @ matrix


def gram(matrix: sparse.csr_matrix) -> Floats:
    """XᵀX of a users × titles matrix, dense [n_titles, n_titles] float32."""
    n_users, n_titles = matrix.shape
    total = np.zeros((n_titles, n_titles), np.float32)
    if matrix.nnz < _DENSE_FROM * n_users * n_titles:
        for number, block in enumerate(gram_blocks(matrix)):
            total[number * _ROWS : (number + 1) * _ROWS] = block.toarray()
        return total
    for start in range(0, n_users, _BLOCK):  # dense blocks are faster than sparse products where rows are long
        block = matrix[start : start + _BLOCK].toarray()
        total += block.T @ block
    return total
