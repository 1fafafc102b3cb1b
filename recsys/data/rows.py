"""Ratings held as numbers and dictionaries, put in order, and streamed out in the order of a dataset.

The fast way to a dataset: ids are text once per distinct id, rows are 28 bytes. Memory grows with the rows; past
:data:`MOST_ROWS` the out-of-core way (:mod:`recsys.data.dataset_files`) takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as c
from recsys.ahead import in_order
from recsys.histories import Bools, Floats, Ints, Longs

MOST_ROWS = 60_000_000
NO_TIME = np.iinfo(np.int64).min
Doubles = NDArray[np.float64]


@dataclass
class Block:
    """Some rows as they came."""

    users: pa.DictionaryArray
    items: pa.DictionaryArray
    ratings: Floats
    given: Bools | None
    """[n] whether there is a rating; None: there always is."""
    times: Doubles | Longs | None
    """[n] numbers in the source's unit (NaN: none), or microseconds (NO_TIME: none); None: no row has a time."""
    chunks: Ints
    """[n] the number of the chunk that a row stands in; -1: of none that is remembered."""

    def __len__(self) -> int:
        return len(self.ratings)


@dataclass
class Rows:
    """All rows, in the order of a dataset."""

    users: pa.Array
    """Distinct ids, ascending."""
    items: pa.Array
    user: Ints
    """[n] place in ``users``."""
    item: Ints
    rating: Floats
    given: Bools | None
    micros: Longs
    chunk: Ints
    order: Longs
    """[n] the place of the row that comes n-th."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def timed(self) -> int:
        """Rows that have a time."""
        return int(np.count_nonzero(self.micros != NO_TIME))

    @property
    def rated(self) -> int:
        """Rows that have a rating."""
        return len(self) if self.given is None else int(np.count_nonzero(self.given))

    def span(self) -> tuple[int, int] | None:
        """The first and the last time."""
        timed = self.micros if self.timed == len(self) else self.micros[self.micros != NO_TIME]
        return (int(timed.min()), int(timed.max())) if len(timed) else None

    def table(self, start: int, stop: int) -> tuple[pa.Table, pa.Table]:
        """Rows ``start:stop`` in order (``columns.RATINGS``), and their chunks."""
        at = self.order[start:stop]
        micros, given = self.micros[at], None if self.given is None else ~self.given[at]
        absent = micros == NO_TIME
        arrays = [
            self.users.take(pa.array(self.user[at])),
            self.items.take(pa.array(self.item[at])),
            pa.array(self.rating[at], mask=given),
            pa.array(micros, mask=absent if absent.any() else None).cast(c.RATINGS.field(c.TIMESTAMP).type),
        ]
        return pa.table(arrays, schema=c.RATINGS), pa.table({"chunk": self.chunk[at]})


def gather(blocks: list[Block], per_unit: float, threads: int = 1) -> Rows:
    """Put blocks together and in order: by user, time (none first), title, rating. Empties the list.

    Args:
        blocks: in any order.
        per_unit: microseconds per unit of numeric times.
        threads: that put them together.
    """
    users, user_places = _distinct([block.users.dictionary for block in blocks])
    items, item_places = _distinct([block.items.dictionary for block in blocks])
    n = sum(map(len, blocks))
    rows = Rows(
        users, items, np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float32),
        None if all(b.given is None for b in blocks) else np.ones(n, np.bool_),
        np.empty(n, np.int64), np.empty(n, np.int32), np.empty(0, np.int64),
    )  # fmt: skip
    with ThreadPoolExecutor(threads) as pool:
        parts = _from_the_last(blocks, user_places, item_places)
        for _ in in_order(pool, lambda part: _fill(rows, *part, per_unit), parts, threads):
            pa.default_memory_pool().release_unused()  # else the blocks' memory stays with us: a third of the peak
    rows.order = _order(rows)
    return rows


def _from_the_last(
    blocks: list[Block], user_places: list[Ints], item_places: list[Ints]
) -> Iterator[tuple[int, Block, Ints, Ints]]:
    """The blocks, each with the place of its first row and the places of its ids."""
    start = 0
    while blocks:
        block = blocks.pop()
        yield start, block, user_places.pop(), item_places.pop()
        start += len(block)


def dictionary_block(table: pa.Table, chunks: Ints) -> Block:
    """Rows of a dataset as a block: ids dictionary-encoded, times in microseconds."""
    one = table.combine_chunks()
    rating, time = one[c.RATING].combine_chunks(), one[c.TIMESTAMP].combine_chunks().cast(pa.int64())
    given = None if not rating.null_count else np.asarray(rating.is_valid())
    return Block(
        users=_encoded(one[c.USER_ID]),
        items=_encoded(one[c.ITEM_ID]),
        ratings=np.asarray(rating.fill_null(0.0), np.float32),
        given=given,
        times=np.asarray(time.fill_null(int(NO_TIME)), np.int64),
        chunks=chunks,
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _distinct(dictionaries: list[pa.Array]) -> tuple[pa.Array, list[Ints]]:
    """The distinct ids of dictionaries, ascending, and the place there of every id of each. All go by once."""
    together = pa.concat_arrays([d.cast(pa.string()) for d in dictionaries]).dictionary_encode()
    order = pc.sort_indices(together.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[np.asarray(order)] = np.arange(len(order), dtype=np.int32)
    places = rank[np.asarray(together.indices)]
    return together.dictionary.take(order), np.split(places, np.cumsum([len(d) for d in dictionaries])[:-1])


def _fill(rows: Rows, start: int, block: Block, user_places: Ints, item_places: Ints, per_unit: float) -> None:
    at = slice(start, start + len(block))
    rows.user[at] = user_places[np.asarray(block.users.indices)]
    rows.item[at] = item_places[np.asarray(block.items.indices)]
    rows.rating[at] = block.ratings
    if rows.given is not None:
        rows.given[at] = True if block.given is None else block.given
    rows.micros[at] = micros_of(block.times, per_unit)
    rows.chunk[at] = block.chunks


def micros_of(times: Doubles | Longs | None, per_unit: float) -> Longs | int:
    """Times as microseconds since 1970, rounded half away from zero; NO_TIME where there is none."""
    if times is None:
        return int(NO_TIME)
    if times.dtype == np.int64:
        return times.astype(np.int64, copy=False)
    integers = times.astype(np.int64) if np.abs(times).max(initial=0.0) < 2**31 else None  # no not-a-number either
    if integers is not None and float(per_unit).is_integer() and (integers == times).all():
        integers *= int(per_unit)
        return integers
    scaled = times * per_unit
    whole = np.trunc(scaled)
    whole += np.copysign((np.abs(scaled - whole) >= 0.5).astype(np.float64), scaled)
    absent = np.isnan(whole)
    result: Longs = np.where(absent, 0.0, whole).astype(np.int64)
    result[absent] = NO_TIME
    return result


def _order(rows: Rows) -> Longs:
    """The rows' places in order. One number per row is sorted; rows that it does not tell apart are seen to after."""
    key = _key(rows)
    if key is None:
        order: Longs = np.lexsort((rows.micros, rows.user))
        same = _same(rows.user, order) & _same(rows.micros, order)
    else:
        order = _ascending(key, rows.user)
        same = _same(key, order)
    as_before = np.concatenate([[False], same])
    tied = np.flatnonzero(as_before | np.append(same, False))
    group = np.cumsum(~as_before[tied])
    order[tied] = order[tied][_by_rest(rows, order[tied], group)]
    return order


def _ascending(key: Longs, user: Ints) -> Longs:
    """The places of ascending keys. Where a source has users' rows together, in time order, whole users are moved."""
    starts = np.concatenate([[0], np.flatnonzero((user[1:] != user[:-1]) | (key[1:] < key[:-1])) + 1])
    ends = np.append(starts[1:], len(key))
    if len(starts) > len(key) // 8:
        order: Longs = np.argsort(key, kind="stable")
        return order
    runs = np.argsort(key[starts], kind="stable")
    starts, ends = starts[runs], ends[runs]
    if (key[starts[1:]] < key[ends[:-1] - 1]).any():
        return np.argsort(key, kind="stable")
    lengths = ends - starts
    order = np.arange(len(key))
    order += np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return order


def _key(rows: Rows) -> Longs | None:
    """User and time in one number; None where they do not fit."""
    span = rows.span()
    first, last = span or (0, 0)
    unit = next(u for u in (1_000_000, 1_000, 1) if u == 1 or _divides(rows.micros, u))
    bits = ((last - first) // unit + 1).bit_length()
    if len(rows.users).bit_length() + bits > 62:
        return None
    time = (rows.micros - first) // unit + 1 if span else np.zeros(len(rows), np.int64)
    if rows.timed < len(rows):
        time[rows.micros == NO_TIME] = 0
    time |= rows.user.astype(np.int64) << bits
    return time


def _divides(micros: Longs, unit: int) -> bool:
    return all(
        not np.any((part % unit != 0) & (part != NO_TIME)) for part in np.array_split(micros, max(1, len(micros) >> 20))
    )


def _same(values: NDArray[Any], order: Longs) -> Bools:
    placed = values[order]
    result: Bools = placed[1:] == placed[:-1]
    return result


def _by_rest(rows: Rows, at: Longs, group: Longs) -> Longs:
    """The order of rows of equal user and time, by title and rating (none first, not-a-number last)."""
    rating = rows.rating[at]
    given = np.ones(len(at), np.bool_) if rows.given is None else rows.given[at]
    order: Longs = np.lexsort((rating.view(np.int32), rating, given, rows.item[at], group))
    return order


def groups(rows: Rows, size: int) -> Iterator[tuple[int, int]]:
    """Where row groups of a file begin and end."""
    return ((start, min(start + size, len(rows))) for start in range(0, len(rows), size))
