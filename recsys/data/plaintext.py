"""Plain ratings files parsed at speed: UTF-8, no quotes, numbers where numbers belong.

What is taken here is exactly what the careful reader (:mod:`recsys.data.delimited`) would make of it; whatever is not
plain, down to a single chunk of lines, is left to that reader and named. Chunks that an earlier ingestion parsed are
not parsed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys import columns as c
from recsys.ahead import in_order
from recsys.data.chunks import EndlessLineError, cut, digests, segments
from recsys.data.rows import Block, Doubles
from recsys.histories import Longs

BANDS = (1e11, 1e14, 1e17)
"""Numeric times below the first are seconds, then milliseconds, microseconds, nanoseconds."""
_WITHIN = (-6e10, 2.5e20)
"""Times beyond are outside the years 1 to 9999 in their unit, or may be."""
_NULLS = ("", "\\N")


@dataclass(frozen=True)
class Layout:
    """How a file's lines are divided, and which fields are ours."""

    delimiter: str
    fields: int
    positions: Mapping[str, int]

    @property
    def key(self) -> str:
        """Equal for layouts under which equal lines mean equal rows."""
        return f"{self.delimiter!r} {self.fields} {sorted(self.positions.items())}"


@dataclass
class Known:
    """Chunks that were parsed before and are not taken yet: their numbers by SHA-256."""

    numbers: dict[bytes, list[int]] = field(default_factory=dict)

    def take(self, digest: bytes) -> int | None:
        """The number of such a chunk; it can be had once."""
        found = self.numbers.get(digest)
        return found.pop() if found else None


@dataclass
class Segment:
    """A stretch of a file, worked through."""

    lines: int
    blocks: list[Block]
    digests: list[bytes]
    """Of the chunks parsed here, by the number that their rows carry (counted within the segment)."""
    sizes: list[int]
    rows: list[int]
    bands: list[tuple[int, ...]]
    """Times per magnitude (:data:`BANDS`), by chunk."""
    kept: list[int]
    """Numbers of the known chunks that stand here."""
    kept_bytes: int
    rough: list[tuple[int, bytes]]
    """Chunks left to the careful reader: their first line, counted within the segment, and their bytes."""


class NotPlainError(Exception):
    """The file as a whole is one for the careful reader."""


def read_plain(
    path: Path, start: int, layout: Layout, known: Known, pool: ThreadPoolExecutor, threads: int
) -> Iterator[Segment]:
    """Work through a file from byte ``start`` on, segment by segment, in order.

    Raises:
        NotPlainError: there are quotes, bytes that are not UTF-8, lone returns or no line ends.
    """
    try:
        yield from in_order(pool, lambda data: _work(data, layout, known), segments(path, start), threads + 1)
    except EndlessLineError:
        raise NotPlainError from None


def _work(data: bytes, layout: Layout, known: Known) -> Segment:
    if b'"' in data or b"\0" in data or not _utf8(data) or not _usual_returns(data):
        raise NotPlainError
    ends, lines = cut(data)
    names = digests(data, ends)
    taken = [known.take(name) for name in names]
    result = Segment(int(lines.sum()), [], [], [], [], [], [n for n in taken if n is not None], 0, [])
    new = np.asarray([n is None for n in taken])
    starts = np.concatenate([[0], ends[:-1]])
    result.kept_bytes = int((ends - starts)[~new].sum())
    first_lines = np.cumsum(lines) - lines
    for run in np.split(np.flatnonzero(new), np.flatnonzero(np.diff(np.flatnonzero(new)) > 1) + 1):
        if len(run):
            _parse_run(data, layout, run, starts, ends, lines, first_lines, names, result)
    return result


def _utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _usual_returns(data: bytes) -> bool:
    return b"\r" not in data or data.count(b"\r") == data.count(b"\r\n")


def _parse_run(
    data: bytes,
    layout: Layout,
    run: Longs,
    starts: Longs,
    ends: Longs,
    lines: Longs,
    first_lines: Longs,
    names: list[bytes],
    result: Segment,
) -> None:
    """Parse neighbouring chunks at once; where that fails, halves of them, down to the chunks that are at fault."""
    text = pa.py_buffer(memoryview(data)[int(starts[run[0]]) : int(ends[run[-1]])])
    block = parse(text, layout, lines[run])
    if block is None:
        if len(run) == 1:
            result.rough.append((int(first_lines[run[0]]), text.to_pybytes()))
            return
        for half in np.array_split(run, 2):
            _parse_run(data, layout, half, starts, ends, lines, first_lines, names, result)
        return
    block.chunks += np.int32(len(result.digests))
    result.blocks.append(block)
    result.digests += [names[n] for n in run]
    result.sizes += (ends[run] - starts[run]).tolist()
    result.rows += lines[run].tolist()
    result.bands += _bands(block.times, lines[run])


def parse(text: pa.Buffer, layout: Layout, lines: Longs) -> Block | None:
    """Lines as rows, their chunks numbered from 0; None where one is not plain.

    Args:
        text: whole lines.
        layout: of the lines.
        lines: of each chunk.
    """
    try:
        table = pa_csv.read_csv(text, *_options(layout, text.size))
    except pa.ArrowInvalid:
        return None
    if len(table) != lines.sum():
        return None
    users, items = (table[name].combine_chunks() for name in (c.USER_ID, c.ITEM_ID))
    rated, timed = c.RATING in layout.positions, c.TIMESTAMP in layout.positions
    rating = table[c.RATING].combine_chunks() if rated else pa.array(np.zeros(len(table), np.float32))
    time = table[c.TIMESTAMP].combine_chunks() if timed else pa.nulls(0, pa.float64())
    if any("" in ids.dictionary.to_pylist() for ids in (users, items)) or not (_finite(rating) and _within(time)):
        return None
    return Block(
        users,
        items,
        np.asarray(rating),
        None if rated else np.zeros(len(table), np.bool_),
        np.asarray(time.fill_null(np.nan)) if timed else None,
        np.repeat(np.arange(len(lines), dtype=np.int32), lines),
    )


def _finite(rating: pa.Array) -> bool:
    return not rating.null_count and bool(np.isfinite(np.asarray(rating)).all())


def _within(time: pa.Array) -> bool:
    """Whether all times given are numbers between :data:`_WITHIN` (a not-a-number says nothing: let it be judged)."""
    values = np.asarray(time.drop_null() if time.null_count else time)
    return not len(values) or bool(values.min() > _WITHIN[0] and values.max() < _WITHIN[1])


def _options(layout: Layout, size: int) -> tuple[pa_csv.ReadOptions, pa_csv.ParseOptions, pa_csv.ConvertOptions]:
    ours = {position: name for name, position in layout.positions.items()}
    names = [ours.get(n, f"other {n}") for n in range(layout.fields)]
    kinds = {name: pa.dictionary(pa.int32(), pa.string()) for name in (c.USER_ID, c.ITEM_ID)}
    kinds |= {c.RATING: pa.float32(), c.TIMESTAMP: pa.float64()}
    used = [name for name in kinds if name in layout.positions]
    return (
        pa_csv.ReadOptions(use_threads=False, block_size=size + 1, column_names=names),
        pa_csv.ParseOptions(delimiter=layout.delimiter, quote_char=False, double_quote=False, escape_char=False),
        pa_csv.ConvertOptions(
            check_utf8=False,  # seen to already
            column_types={name: kinds[name] for name in used},
            include_columns=used,
            null_values=_NULLS,
            strings_can_be_null=False,
        ),
    )


def _bands(times: Doubles | Longs | None, lines: Longs) -> list[tuple[int, ...]]:
    if times is None:
        return [(0,) * (len(BANDS) + 1)] * len(lines)
    size = np.abs(times)
    low, high = np.nanmin(size, initial=np.inf), np.nanmax(size, initial=0.0)
    starts = np.cumsum(lines) - lines
    counts = []
    for least, most in zip((0.0, *BANDS), (*BANDS, np.inf), strict=True):
        if high < least or low >= most:
            counts.append(np.zeros(len(lines), np.int64))
        elif low >= least and high < most and not np.isnan(times).any():
            counts.append(lines)
        else:
            counts.append(np.add.reduceat(((size >= least) & (size < most)).astype(np.int64), starts))
    return [tuple(row) for row in np.stack(counts, axis=1).tolist()]
