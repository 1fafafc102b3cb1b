"""The fast way from plain ratings files to rows in order: what is plain is parsed at once, the rest with care.

Rows of chunks that an earlier ingestion parsed come from its dataset. The result is, to the byte, that of the careful
way over all (:mod:`recsys.data.ratings_sql`), which takes over where a file as a whole is not plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys import columns as c
from recsys.data import ratings_sql
from recsys.data.delimited import divide
from recsys.data.ledger import LEDGER, Earlier, entries, magnitudes
from recsys.data.mapping import resolve
from recsys.data.plaintext import Known, Layout, NotPlainError, Segment, read_plain
from recsys.data.ratings_sql import STAGED, UNITS, Beside, unit_of
from recsys.data.rawfiles import Stretches, TextFile, unpacked
from recsys.data.reading import Reading
from recsys.data.rows import MOST_ROWS, Block, Rows, dictionary_block, gather
from recsys.data.sources.base import RawFile, RawTable
from recsys.data.staging import Staging
from recsys.histories import Longs

_LEAST_BYTES_A_ROW = 20
_PACKED = 6
"""Bytes of text per packed byte, roughly."""
_BOM = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Fast:
    """Ratings read the fast way."""

    rows: Rows
    unit: str | None
    """Of numeric times."""
    ledger: pa.Table
    """The chunks that rows carry the numbers of."""
    kept_rows: int
    """Rows taken from the earlier dataset."""
    kept_bytes: int
    """Bytes of text that were not parsed again, and those that were."""
    parsed_bytes: int


@dataclass
class _Read:
    """What is at hand while files are read."""

    blocks: list[Block] = field(default_factory=list)
    ledgers: list[pa.Table] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    kept_bytes: int = 0
    parsed_bytes: int = 0
    chunks: int = 0
    rough: bool = False


def read_fast(stage: Staging, raw: RawTable, earlier: Earlier | None, threads: int) -> Fast | None:
    """Read ratings the fast way; None where they are not for it, with nothing staged.

    Raises:
        SourceError: a file is missing, damaged or lacks a column.
    """
    if raw.layout != "delimited" or sum(map(_text_bytes, raw.files)) > MOST_ROWS * _LEAST_BYTES_A_ROW:
        return None
    try:
        with ThreadPoolExecutor(threads) as pool:
            read = _Read()
            for file in raw.files:
                _read_file(stage, raw, file, earlier, read, pool, threads)
        found = _gather(stage, read, earlier, threads)
    except NotPlainError:
        found = None
    if found is None:
        stage.forget(STAGED)
        return None if earlier is None else read_fast(stage, raw, None, threads)
    return found


def _read_file(
    stage: Staging,
    raw: RawTable,
    file: RawFile,
    earlier: Earlier | None,
    read: _Read,
    pool: ThreadPoolExecutor,
    threads: int,
) -> None:
    with _text(stage, file) as path:
        header = b"" if raw.header is not None else _header(path)
        line = header.decode("utf-8-sig").rstrip("\r\n") if header else _header(path).decode(errors="replace")
        delimiter, _, names = divide(line, raw, file)
        if len(delimiter) != 1:
            raise NotPlainError
        positions = resolve(raw.role, names, raw.mapping, raw.required, where=file.where)
        stage.readings[stage.number(file)] = Reading(raw.role, file, delimiter, raw.header is None, positions)
        layout = Layout(delimiter, len(names), {n: p for n, p in positions.items() if n in c.RATINGS.names})
        known = earlier.known(layout.key) if earlier is not None else Known()
        rough: list[tuple[int, bytes]] = []
        lines = 1 + bool(header)
        for segment in read_plain(path, len(header), layout, known, pool, threads):
            _take(read, segment, layout)
            rough += [(lines + first, text) for first, text in segment.rough]
            lines += segment.lines
        if rough:
            read.rough = True
            _load_rough(stage, replace(raw, delimiter=delimiter), file, header, rough)


def _text_bytes(file: RawFile) -> int:
    """About how many bytes of text a file holds."""
    packed = file.member is not None or file.path.suffix.lower() in (".gz", ".zst")
    return (file.path.stat().st_size if file.path.is_file() else 0) * (_PACKED if packed else 1)


@contextmanager
def _text(stage: Staging, file: RawFile) -> Iterator[Path]:
    path = unpacked(file, stage.scratch)
    try:
        yield path
    finally:
        if path != file.path:
            path.unlink()


def _header(path: Path) -> bytes:
    """The first line. A file that does not begin with one is not plain."""
    with path.open("rb") as stream:
        line = stream.readline(1 << 20)
    begins = line.removeprefix(_BOM[0])
    if not begins.strip() or not line.endswith(b"\n") or line.startswith(_BOM[1:]) or b'"' in line or b"\0" in line:
        raise NotPlainError
    if b"\r" in line[:-2]:
        raise NotPlainError
    try:
        line.decode()
    except UnicodeDecodeError:
        raise NotPlainError from None
    return line


def _take(read: _Read, segment: Segment, layout: Layout) -> None:
    for block in segment.blocks:
        block.chunks += np.int32(read.chunks)
    read.blocks += segment.blocks
    read.chunks += len(segment.digests)
    read.ledgers.append(entries(layout.key, segment.digests, segment.sizes, segment.rows, segment.bands))
    read.kept += segment.kept
    read.kept_bytes += segment.kept_bytes
    read.parsed_bytes += sum(segment.sizes) + sum(len(text) for _, text in segment.rough)


def _load_rough(stage: Staging, raw: RawTable, file: RawFile, header: bytes, rough: list[tuple[int, bytes]]) -> None:
    """Give the chunks that are not plain to the careful reader, as a file of their own."""
    path = stage.scratch / f"{stage.fresh('rough')}.txt"
    path.write_bytes((header + b"".join(text for _, text in rough)).replace(b"\r\n", b"\n"))
    counts = [text.count(b"\n") for _, text in rough]
    here = np.cumsum([1 + bool(header), *counts[:-1]]).astype(np.int64)
    there = np.asarray([first for first, _ in rough], np.int64)
    filled = bool(header) + sum(len([x for x in text.split(b"\n") if x.strip(b"\r")]) for _, text in rough)
    text = TextFile(path, file.name, file.where, filled, False, False, stretches=Stretches(here, there))
    stage.load_text(STAGED, raw, file, text, ratings_sql.project)


def _gather(stage: Staging, read: _Read, earlier: Earlier | None, threads: int) -> Fast | None:
    """All rows in order; None where their times are of several units, or no longer of the earlier one."""
    kept = np.asarray(read.kept, np.int64)
    before = LEDGER.empty_table() if earlier is None else earlier.ledger.take(pa.array(kept))
    ledger = pa.concat_tables([before, *read.ledgers])
    counts = magnitudes(ledger)
    if not len(ledger):
        return None  # nothing is plain
    unit, careful = unit_of(counts), None
    if read.rough:
        rated = any(f"'{c.RATING}'" in layout for layout in ledger["layout"].unique().to_pylist())
        rows, found = ratings_sql.settle(stage, Beside(rated, counts))
        unit = found.unit
        careful = stage.con.sql(f"SELECT user_id, item_id, rating, us AS timestamp FROM ({rows})").to_arrow_table()
    later = counts[list(UNITS).index(unit) + 1 :] if unit else counts
    if later.any() or (earlier is not None and len(kept) and magnitudes(earlier.ledger).any() and unit != earlier.unit):
        return None
    return _together(read, earlier, kept, ledger, careful, unit, threads)


def _together(
    read: _Read,
    earlier: Earlier | None,
    kept: Longs,
    ledger: pa.Table,
    careful: pa.Table | None,
    unit: str | None,
    threads: int,
) -> Fast:
    for block in read.blocks:
        block.chunks += np.int32(len(kept))
    blocks = [] if earlier is None else list(earlier.blocks(kept))
    kept_rows = sum(map(len, blocks))
    blocks += read.blocks
    read.blocks.clear()
    if careful is not None and len(careful):
        blocks.append(dictionary_block(careful.cast(c.RATINGS), np.full(len(careful), -1, np.int32)))
    blocks.reverse()  # they are taken from the end: what stood in order stays so, and is sorted faster
    rows = gather(blocks, UNITS[unit] if unit else 1.0, threads)
    return Fast(rows, unit, ledger, kept_rows, read.kept_bytes, read.parsed_bytes)
