"""Turns histories into what an encoder of users reads, a batch at a time, without a loop over users.

Knows nothing of networks: numpy in, numpy out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.histories import Bools, Floats, Histories, Longs


@dataclass(frozen=True)
class UserInputs:
    """A batch of users as an encoder reads them: sparse channels over titles, the newest titles, the length."""

    indices: Longs
    """[n] row of the first layer's weights: channel × n_items + title, by user."""
    offsets: Longs
    """[n_users] where each user's indices begin."""
    values: Floats
    """[n] L2-normalised per user and channel."""
    sequence: Longs | None
    """[n_users, length] titles, newest first; ``n_items`` pads. None without order."""
    log_lengths: Floats
    """[n_users] log(1 + titles read)."""

    def part(self, users: slice) -> UserInputs:
        """Those of some users of the batch, neighbours."""
        ends = np.append(self.offsets, len(self.indices))
        offsets = self.offsets[users]
        entries = slice(offsets[0], ends[users.start + len(offsets)])
        return UserInputs(
            indices=self.indices[entries],
            offsets=offsets - offsets[0],
            values=self.values[entries],
            sequence=None if self.sequence is None else self.sequence[users],
            log_lengths=self.log_lengths[users],
        )


@dataclass(frozen=True)
class Targets:
    """What the encoder's user is to be scored against."""

    seen_rows: Longs
    """[m] users (places in the batch) of the titles that are no candidates."""
    seen_items: Longs
    """[m] those titles."""
    rows: Longs
    """[t] users of the targets."""
    items: Longs
    """[t] target titles."""
    weights: Floats
    """[n_users] n^-½ of n targets; 0 without a target."""

    def part(self, users: slice) -> Targets:
        """Those of some users of the batch, neighbours."""
        seen, wanted = (
            slice(*np.searchsorted(rows, (users.start, users.stop))) for rows in (self.seen_rows, self.rows)
        )
        return Targets(
            self.seen_rows[seen] - users.start,
            self.seen_items[seen],
            self.rows[wanted] - users.start,
            self.items[wanted],
            self.weights[users],
        )


@dataclass(frozen=True)
class Rows:
    """Interactions of a batch of users, flat, by user and within a user in order.

    What an encoder reads is all of them, or only what was liked; targets are always what was liked.
    """

    n_users: int
    n_items: int
    rows: Longs
    """[n] place in the batch."""
    items: Longs
    """[n]"""
    places: Longs
    """[n] how many of the user's interactions that are read come before."""
    positive: Bools
    """[n]"""
    read: Bools
    """[n]"""
    counts: Longs
    """[n_users] interactions that are read."""
    ordered: bool
    reads_all: bool

    @classmethod
    def of(cls, histories: Histories, *, reads_all: bool) -> Rows:
        """All interactions of all users, of which all or only the positive ones are read."""
        rows = histories.user_nums.astype(np.int64)
        positive = np.asarray(histories.positive)
        read = np.ones(len(rows), np.bool_) if reads_all else positive
        before: Longs = np.cumsum(read, dtype=np.int64) - read
        starts = histories.indptr[:-1]
        at_start = before[np.minimum(starts, len(before) - 1)] if len(before) else np.zeros(len(starts), np.int64)
        return cls(
            n_users=histories.n_users,
            n_items=histories.n_items,
            rows=rows,
            items=histories.item_nums.astype(np.int64),
            places=before - at_start[rows],
            positive=positive,
            read=read,
            counts=np.bincount(rows[read], minlength=histories.n_users).astype(np.int64),
            ordered=histories.ordered,
            reads_all=reads_all,
        )


def with_ties_drawn(histories: Histories, rng: np.random.Generator) -> Histories:
    """The same, with what carries one and the same time in a new random order: the given one means nothing."""
    if histories.timestamps is None:
        return histories
    order = np.lexsort((rng.random(len(histories.item_nums)), histories.timestamps, histories.user_nums))
    return replace(
        histories,
        item_nums=histories.item_nums[order],
        ratings=histories.ratings[order],
        positive=histories.positive[order],
    )


def whole(rows: Rows, *, taus: tuple[float, ...], sequence_length: int) -> UserInputs:
    """The users as they are."""
    return _inputs(rows, rows.read, rows.counts, taus, sequence_length)


def next_window(
    rows: Rows,
    rng: np.random.Generator,
    *,
    taus: tuple[float, ...],
    sequence_length: int,
    dropout: float,
    window: int,
) -> tuple[UserInputs, Targets]:
    """Prefixes of random length as input, the positives that follow as targets.

    The cut is uniform in .2 … .95 of what is read of a user, leaving at least one on each side; the targets are the
    positives among the next max(``window``, a quarter of the prefix). What lies before the cut, dropped or not, is no
    candidate.
    """
    cuts = np.floor(rng.uniform(0.2, 0.95, rows.n_users) * rows.counts).astype(np.int64)
    cuts = np.clip(cuts, np.minimum(1, rows.counts - 1), rows.counts - 1)
    ends = cuts + np.maximum(window, cuts // 4)
    cut = cuts[rows.rows]
    before = rows.places < cut
    target = rows.positive & ~before & (rows.places < ends[rows.rows])
    kept = before & rows.read & (rng.random(len(cut)) >= dropout)
    return _inputs(rows, kept, np.maximum(cuts, 0), taus, sequence_length), _targets(rows, before, target)


def held_out(
    rows: Rows, rng: np.random.Generator, *, low: float = 0.1, high: float = 0.7
) -> tuple[UserInputs, Targets]:
    """For users without order: a random share of each one's positives is held out as targets, the rest is input.

    The share is uniform in ``low`` … ``high``; at least one positive is held out.
    """
    draw = rng.random(len(rows.rows)) + ~rows.positive  # negatives, above 1, are never drawn
    shares = rng.uniform(low, high, rows.n_users)
    least = np.full(rows.n_users, np.inf)
    np.minimum.at(least, rows.rows, draw)
    target = rows.positive & ((draw < shares[rows.rows]) | (draw == least[rows.rows]))
    counts = rows.counts - np.bincount(rows.rows[target], minlength=rows.n_users)
    return _inputs(rows, rows.read & ~target, counts, (), 0), _targets(rows, ~target, target)


def _targets(rows: Rows, seen: Bools, target: Bools) -> Targets:
    counts = np.bincount(rows.rows[target], minlength=rows.n_users)
    weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0).astype(np.float32)
    return Targets(rows.rows[seen], rows.items[seen], rows.rows[target], rows.items[target], weights)


def _inputs(rows: Rows, kept: Bools, cuts: Longs, taus: tuple[float, ...], sequence_length: int) -> UserInputs:
    """The kept interactions as channels; ages count what is read back from the cut."""
    row, item, place = rows.rows[kept], rows.items[kept], rows.places[kept]
    ages = cuts[row] - 1 - place if rows.ordered else np.zeros(len(row), np.int64)
    liked, even = rows.positive[kept], np.ones(len(row))
    channels = [(even, liked), *((np.exp(-ages / tau), ages < 10 * tau) for tau in taus)]
    channels += [(even, ~liked)] if rows.reads_all else []
    parts = [_channel(number, values, row, item, rows, among) for number, (values, among) in enumerate(channels)]
    row_of, indices, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(row_of, kind="stable")
    ends = np.cumsum(np.bincount(row_of, minlength=rows.n_users))
    return UserInputs(
        indices=indices[order],
        offsets=np.concatenate([[0], ends]).astype(np.int64)[:-1],
        values=values[order].astype(np.float32),
        sequence=_sequence(rows, cuts, sequence_length) if sequence_length else None,
        log_lengths=np.log1p(np.bincount(row, minlength=rows.n_users)).astype(np.float32),
    )


def _channel(
    number: int, values: NDArray[np.float64], row: Longs, item: Longs, rows: Rows, kept: Bools
) -> tuple[Longs, Longs, NDArray[np.float64]]:
    """One channel of the entries ``kept``, L2-normalised per user: (rows, indices, values)."""
    row, item, values = row[kept], item[kept], values[kept]
    norms = np.sqrt(np.bincount(row, weights=values**2, minlength=rows.n_users))
    return row, item + number * rows.n_items, values / np.maximum(norms, 1e-12)[row]


def _sequence(rows: Rows, cuts: Longs, length: int) -> Longs:
    """The newest titles read before the cut, newest first, [n_users, at most length, at least 1]."""
    ages = cuts[rows.rows] - 1 - rows.places
    recent = rows.read & (ages >= 0) & (ages < length)
    width = max(1, int(ages[recent].max(initial=0)) + 1)
    sequence = np.full((rows.n_users, width), rows.n_items, np.int64)
    sequence[rows.rows[recent], ages[recent]] = rows.items[recent]
    return sequence
