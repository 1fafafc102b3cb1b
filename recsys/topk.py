"""Exact top-k of blocks of scores, with ties broken by item number: the same everywhere a list is made."""

from __future__ import annotations

import numpy as np

from recsys.histories import Bools, Floats, Histories, Ints

NO_ITEM = -1


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
    listable = scores > -np.inf
    if k < n_items:
        threshold = np.partition(scores, n_items - k, axis=1)[:, n_items - k, None]
        listable &= scores >= threshold  # at least k a row: more where scores tie at the threshold
    rows, columns = np.nonzero(listable)
    found = scores[rows, columns]
    order = np.lexsort((columns, -found, rows))
    rows, columns, found = rows[order], columns[order], found[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, np.arange(n_users))[rows]
    keep = place < k
    items[rows[keep], place[keep]] = columns[keep]
    values[rows[keep], place[keep]] = found[keep]
    return items, values


def scatter_mask(n_items: int, item_nums: Ints) -> Bools:
    """[n_items] booleans, true for the given titles."""
    mask = np.zeros(n_items, np.bool_)
    mask[item_nums] = True
    return mask
