"""Exact top-k of blocks of scores, with ties broken by item number: the same everywhere a list is made."""

from __future__ import annotations

import numpy as np

from recsys.histories import Bools, Floats, Histories, Ints, Longs

NO_ITEM = -1
GROUPS = 1024
"""Groups, at least, that a wide row is cut into: the k-th best of their maxima is no better than the k-th score."""
GROUPS_PER_PLACE = 8
"""Groups, at least, for each of the k places: with so many the bound lets few more than k titles through."""
WIDE = 4
"""Titles per group from which the groups pay; a narrower row is partitioned as it is."""
CROWDED = 4
"""Titles let through per place from which a row is cut to its exact k before it is sorted: ties, as a rule."""


def mask_seen(scores: Floats, histories: Histories) -> None:
    """Set the scores [n_users, n_items] of everything in the users' histories to -inf, in place."""
    scores[histories.user_nums, histories.item_nums] = -np.inf


def top_k(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The k best titles of every row, best first; equal scores by item number.

    Args:
        scores: [n_users, n_items]; -inf marks titles that may not be listed.
        k: length of the lists.

    Returns:
        item numbers [n_users, k] and scores [n_users, k]. Where a row has fewer listable titles, the rest is
        :data:`NO_ITEM` with score -inf.
    """
    n_users, n_items = scores.shape
    items = np.full((n_users, k), NO_ITEM, np.int32)
    values = np.full((n_users, k), -np.inf, np.float32)
    if not (n_users and n_items and k):
        return items, values
    scores = np.ascontiguousarray(scores)
    bound = np.maximum(_bound(scores, k), np.finfo(np.float32).min)[:, None]  # what is -inf stays out
    flat = np.flatnonzero(scores >= bound)  # at least k a row where so many are listable, in the order of their numbers
    rows = flat // n_items
    counts = np.bincount(rows, minlength=n_users)
    crowded = np.flatnonzero(counts > CROWDED * k)
    if len(crowded):
        flat = _cut(scores, k, flat, crowded, counts)
        rows = flat // n_items
        counts = np.bincount(rows, minlength=n_users)
    found = np.full((n_users, max(int(counts.max()), 1)), -np.inf, np.float32)
    numbers = np.full(found.shape, NO_ITEM, np.int32)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[rows, places] = scores.reshape(-1)[flat]
    numbers[rows, places] = flat - rows * n_items
    best = np.argsort(-found, axis=1, kind="stable")[:, :k]  # stable: equal scores stay in the order of their numbers
    items[:, : best.shape[1]] = np.take_along_axis(numbers, best, axis=1)
    values[:, : best.shape[1]] = np.take_along_axis(found, best, axis=1)
    return items, values


def _bound(scores: Floats, k: int) -> Floats:
    """For every row a score that at least k titles have or exceed, [n_users]; -inf where there are not so many."""
    n_users, n_items = scores.shape
    if k >= n_items:
        return np.full(n_users, -np.inf, np.float32)
    groups = max(GROUPS, GROUPS_PER_PLACE * k)
    size = n_items // groups
    if size < WIDE:
        return np.asarray(np.partition(scores, n_items - k, axis=1)[:, n_items - k])
    # Title j is in group j mod groups: maxima of whole vectors, no title twice. Some at the end are in none.
    maxima: Floats = scores[:, : size * groups].reshape(n_users, size, groups).max(axis=1)
    maxima.partition(groups - k, axis=1)
    return maxima[:, groups - k]


def _cut(scores: Floats, k: int, flat: Longs, crowded: Longs, counts: Longs) -> Longs:
    """Leave of some rows exactly the k best, of equals those of the lowest numbers."""
    n_items = scores.shape[1]
    ends = np.cumsum(counts)
    keep = np.ones(len(flat), np.bool_)
    for row in crowded:
        found = scores[row, flat[ends[row] - counts[row] : ends[row]] - row * n_items]
        least = np.partition(found, len(found) - k)[len(found) - k]
        better = found > least
        equal = np.flatnonzero(found == least)[: k - int(better.sum())]
        better[equal] = True
        keep[ends[row] - counts[row] : ends[row]] = better
    return flat[keep]


def scatter_mask(n_items: int, item_nums: Ints) -> Bools:
    """[n_items] booleans, true for the given titles."""
    mask = np.zeros(n_items, np.bool_)
    mask[item_nums] = True
    return mask
