"""Users' histories: compressed rows of interactions, each user's in time order.

The one form in which models see users: in training, in evaluation, at export and for a visitor never seen before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FILES = ("indptr", "item_nums", "ratings", "positive", "timestamps")


def evenly_spaced(numbers: NDArray[np.integer], most: int) -> Longs:
    """At most so many of these numbers [n], evenly spaced: no seed, and the same ones every time."""
    places = (
        np.arange(len(numbers)) if len(numbers) <= most else np.linspace(0, len(numbers) - 1, most).astype(np.int64)
    )
    return np.asarray(numbers[places], np.int64)


@dataclass(frozen=True)
class Histories:
    """Interactions of a block of users, as compressed sparse rows.

    Row ``u`` is ``indptr[u]:indptr[u+1]``. Within a row, entries are in time order, oldest first, where
    ``timestamps`` is given; without it the order (by item number) means nothing and ``ordered`` is False.
    A title occurs at most once in a row.
    """

    indptr: Longs
    """[n_users + 1]"""
    item_nums: Ints
    """[n]"""
    ratings: Floats
    """[n]; NaN where the feedback is implicit."""
    positive: Bools
    """[n]; whether the interaction counts as liked. All that is here counts as seen."""
    timestamps: Longs | None
    """[n] microseconds since the epoch, UTC; None where there is no order."""
    n_items: int

    @property
    def n_users(self) -> int:
        """Number of rows, empty ones included."""
        return len(self.indptr) - 1

    @property
    def ordered(self) -> bool:
        """Whether the order within a row is time."""
        return self.timestamps is not None

    @property
    def lengths(self) -> Longs:
        """Entries per row, [n_users]."""
        return np.diff(self.indptr)

    @property
    def user_nums(self) -> Ints:
        """The row of every entry, [n]."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.lengths)

    @property
    def ages(self) -> Ints:
        """How many newer entries each entry has in its row, [n]: 0 is the newest."""
        return (np.repeat(self.indptr[1:], self.lengths) - 1 - np.arange(len(self.item_nums))).astype(np.int32)

    def row(self, user: int) -> slice:
        """Where a user's entries lie."""
        return slice(int(self.indptr[user]), int(self.indptr[user + 1]))

    def select(self, users: NDArray[np.integer] | slice) -> Histories:
        """The histories of some users, in the order asked for."""
        if isinstance(users, slice):
            if users.step in (None, 1):  # neighbours: what is not theirs is not looked at, however many users there are
                start, stop, _ = users.indices(self.n_users)
                bounds = np.asarray(self.indptr[start : max(start, stop) + 1])
                return self._with(bounds - bounds[0], np.arange(bounds[0], bounds[-1]))
            users = np.arange(self.n_users)[users]
        users = np.asarray(users, dtype=np.int64)
        lengths = self.lengths[users]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.arange(indptr[-1]) + np.repeat(self.indptr[users] - indptr[:-1], lengths)
        return self._with(indptr, take)

    def where(self, keep: Bools) -> Histories:
        """The same users with only the entries that ``keep`` [n] names."""
        counts = np.add.reduceat(np.concatenate([keep, [False]]).astype(np.int64), self.indptr[:-1]) * (
            self.lengths > 0
        )
        return self._with(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.flatnonzero(keep))

    def _with(self, indptr: Longs, take: NDArray[np.integer]) -> Histories:
        return Histories(
            indptr,
            self.item_nums[take],
            self.ratings[take],
            self.positive[take],
            None if self.timestamps is None else self.timestamps[take],
            self.n_items,
        )

    def positives(self) -> Histories:
        """Only what was liked."""
        return self if bool(self.positive.all()) else self.where(self.positive)

    def last(self, k: int) -> Histories:
        """Only the newest ``k`` entries of each row."""
        return self.where(self.ages < k)

    def unordered(self) -> Histories:
        """The same without time: entries by item number."""
        order = np.lexsort((self.item_nums, self.user_nums))
        return Histories(
            self.indptr, self.item_nums[order], self.ratings[order], self.positive[order], None, self.n_items
        )

    def blocks(self, size: int) -> Iterator[tuple[int, Histories]]:
        """The histories in blocks of ``size`` users: (first user, block)."""
        for start in range(0, self.n_users, size):
            yield start, self.select(slice(start, min(start + size, self.n_users)))

    def matrix(self, values: Floats | None = None) -> sparse.csr_matrix:
        """As a users × titles matrix, [n_users, n_items], of ones or of ``values`` [n]."""
        data = np.ones(len(self.item_nums), np.float32) if values is None else values.astype(np.float32)
        matrix = sparse.csr_matrix(
            (data, self.item_nums.copy(), self.indptr.copy()), shape=(self.n_users, self.n_items)
        )
        matrix.sort_indices()
        return matrix

    def recency(self, tau: float) -> Floats:
        """exp(-age/tau) of every entry, [n], age counted in interactions; ones where there is no order."""
        if not self.ordered:
            return np.ones(len(self.item_nums), np.float32)
        return np.exp(-self.ages / tau).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write as .npy files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            values = getattr(self, name)
            if values is not None:
                np.save(folder / f"{name}.npy", values, allow_pickle=False)
        np.save(folder / "n_items.npy", np.int64(self.n_items), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Histories:
        """Read what :meth:`save` wrote, memory-mapped."""

        def read(name: str) -> NDArray[np.generic]:
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

        return cls(
            indptr=read("indptr"),  # type: ignore[arg-type]
            item_nums=read("item_nums"),  # type: ignore[arg-type]
            ratings=read("ratings"),  # type: ignore[arg-type]
            positive=read("positive"),  # type: ignore[arg-type]
            timestamps=read("timestamps") if (folder / "timestamps.npy").exists() else None,  # type: ignore[arg-type]
            n_items=int(read("n_items")),
        )

    @classmethod
    def of_lists(cls, rows: Sequence[Sequence[int]], n_items: int, *, ordered: bool = True) -> Histories:
        """Histories of positive interactions from lists of item numbers, oldest first. Of repeats the last counts."""
        kept = [list(dict.fromkeys(reversed(row)))[::-1] if ordered else sorted(set(row)) for row in rows]
        items = np.array([item for row in kept for item in row], np.int32)
        return cls(
            indptr=np.concatenate([[0], np.cumsum([len(row) for row in kept])]).astype(np.int64),
            item_nums=items,
            ratings=np.full(len(items), np.nan, np.float32),
            positive=np.ones(len(items), np.bool_),
            timestamps=np.concatenate([np.arange(len(row), dtype=np.int64) for row in kept] or [np.zeros(0, np.int64)])
            if ordered
            else None,
            n_items=n_items,
        )
