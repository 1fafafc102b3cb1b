"""The best titles of many users by inner products of vectors: exact, block by block, never a users × titles matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys.histories import Bools, Floats, Histories, Ints
from recsys.parallel import on_all_threads
from recsys.topk import NO_ITEM, top_k

CELLS = 6_000_000
"""Scores that a block has at most: 24 MB, whatever the number of titles."""
LEAST_USERS = 16
"""Users in a block, however many titles there are."""


def users_per_block(n_items: int, most: int) -> int:
    """How many users to score at a time: few where titles are many."""
    return max(1, min(most, max(LEAST_USERS, CELLS // max(n_items, 1))))


def retrieve(
    users: Floats,
    titles: Floats,
    k: int,
    *,
    seen: Histories | None = None,
    listable: Bools | None = None,
    block_size: int = 128,
    threads: int | None = None,
) -> Iterator[tuple[int, Ints, Floats]]:
    """The k titles of the largest inner products with every user's vector: equal ones by number.

    Args:
        users: [n_users, d]; may be memory-mapped, a block at a time is read.
        titles: [n_items, d]; a bias is one more column, with ones in the users'.
        k: length of the lists.
        seen: histories [n_users] of what is not to be listed.
        listable: [n_items] titles that may be listed; the others are not even scored.
        block_size: users at a time, at most.
        threads: blocks at a time (None: as many threads as a product would use).

    Yields:
        The first user of a block, item numbers [b, k] and scores [b, k], best first; see :func:`recsys.topk.top_k`.
    """
    numbers = np.arange(len(titles)) if listable is None else np.flatnonzero(listable)
    scored = np.ascontiguousarray(titles if listable is None else titles[numbers], np.float32)
    places = np.full(len(titles), NO_ITEM)
    places[numbers] = np.arange(len(numbers))
    size = users_per_block(len(numbers), block_size)

    def block_of(start: int) -> tuple[int, Ints, Floats]:
        scores = np.asarray(users[start : start + size], np.float32) @ scored.T  # [b, n_listable]
        if seen is not None:
            rows = seen.select(slice(start, start + len(scores)))
            at = places[rows.item_nums]
            scores[rows.user_nums[at != NO_ITEM], at[at != NO_ITEM]] = -np.inf
        found, values = top_k(scores, k)
        return start, np.where(found == NO_ITEM, NO_ITEM, numbers[found]).astype(np.int32), values

    return on_all_threads(block_of, range(0, len(users), size), threads)
