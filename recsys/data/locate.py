"""Where rows stood in the raw files: found again by reading them once more. Asked only about rows that are bad.

Lines go by in blocks and are split without a Python loop over rows; only lines of wanted ids are looked at one by one.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.artefacts import ArtefactRef, file_sha256, read_manifest
from recsys.data.rawfiles import blocks, prepare
from recsys.data.reading import Reading
from recsys.data.sources.base import RawFile
from recsys.errors import MarqueeError

MOST = 10_000
"""Rows that are looked for; beyond that the file itself is at fault, and line numbers help nobody."""


def locate_lines(ref: ArtefactRef, rows: pa.Table) -> pa.Table:
    """Find rows in the raw files that a dataset (or source) artefact was made from.

    Args:
        ref: a dataset or source artefact.
        rows: ``user_id``, ``item_id``; where there is a ``rating`` (number or text), the line must have it too.
            Equal rows get the lines that are equal, in the file's order.

    Returns:
        ``file`` and ``line`` (from 1), one row per row asked for and in their order; null where it is not known: the
        source has no lines (Parquet), or its files are gone or have changed.
    """
    summary = read_manifest(ref).summary
    intact = {entry["path"]: _unchanged(entry) for entry in summary["files"]}
    readings = {
        number: reading_of(entry)
        for number, entry in enumerate(summary["reading"])
        if entry["role"] == "ratings" and intact.get(str(Path(entry["file"]["path"]).resolve()))
    }
    wanted = rows.slice(0, MOST)
    hits: list[tuple[str, int] | None] = [None] * len(rows)
    with tempfile.TemporaryDirectory(prefix="marquee-locate-", dir=Path(ref.path).parent) as scratch:
        search = _Search(wanted)
        for reading in readings.values():
            search.through(reading, Path(scratch))
        hits[: len(wanted)] = search.answer()
    return pa.table(
        {
            "file": pa.array([hit and hit[0] for hit in hits], pa.string()),
            "line": pa.array([hit and hit[1] for hit in hits], pa.int64()),
        }
    )


def find_lines(readings: Mapping[int, Reading], rows: pa.Table, scratch: Path) -> pa.Array:
    """The lines of staged rows that could not be read; ``file`` is the number of the file in ``readings``."""
    lines: list[int | None] = [None] * len(rows)
    numbers = rows["file"].to_pylist()
    for number in sorted(set(numbers) & set(readings)):
        places = [n for n, file in enumerate(numbers) if file == number][:MOST]
        search = _Search(rows.take(pa.array(places)))
        search.through(readings[number], scratch)
        for place, hit in zip(places, search.answer(), strict=True):
            lines[place] = hit[1] if hit else None
    return pa.array(lines, pa.int64())


def _unchanged(entry: Mapping[str, Any]) -> bool:
    path = Path(entry["path"])
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]


def reading_of(entry: Mapping[str, Any]) -> Reading:
    """A reading from the JSON of its fields."""
    file = RawFile(Path(entry["file"]["path"]), entry["file"]["member"])
    return Reading(entry["role"], file, entry["delimiter"], entry["header_line"], entry["positions"])


@dataclass
class _Line:
    file: str
    number: int
    values: Mapping[str, str | None]


@dataclass
class _Search:
    """Rows looked for, and the lines that have their ids."""

    rows: pa.Table
    found: dict[tuple[str, str], list[_Line]] = field(default_factory=lambda: defaultdict(list))

    def through(self, reading: Reading, scratch: Path) -> None:
        """Look through one file."""
        try:
            text = prepare(reading.file, scratch)
        except (MarqueeError, OSError):
            return
        users, items = (pa.array({_bare(v) for v in self.rows[n].to_pylist()}) for n in (c.USER_ID, c.ITEM_ID))
        for first, lines in _lines(text.path):
            split = pc.split_pattern(lines, reading.delimiter)
            values = {name: _field(split, position) for name, position in reading.positions.items()}
            there = pc.and_(
                pc.is_in(pc.fill_null(values[c.USER_ID], ""), value_set=users),
                pc.is_in(pc.fill_null(values[c.ITEM_ID], ""), value_set=items),
            )
            at = np.flatnonzero(there.to_numpy(zero_copy_only=False))
            picked = {name: column.take(pa.array(at)).to_pylist() for name, column in values.items()}
            for n, offset in enumerate(at):
                line = _Line(reading.file.name, first + int(offset), {name: v[n] for name, v in picked.items()})
                self.found[_bare(line.values[c.USER_ID]), _bare(line.values[c.ITEM_ID])].append(line)
        if text.copied:
            text.path.unlink()

    def answer(self) -> list[tuple[str, int] | None]:
        """File and line per row; each line is given once."""
        taken: set[tuple[str, int]] = set()
        return [self._match(row, taken) for row in self.rows.to_pylist()]

    def _match(self, row: Mapping[str, Any], taken: set[tuple[str, int]]) -> tuple[str, int] | None:
        for line in self.found.get((_bare(row[c.USER_ID]), _bare(row[c.ITEM_ID])), []):
            if (line.file, line.number) not in taken and _same(row, line):
                taken.add((line.file, line.number))
                return line.file, line.number
        return None


def _bare(value: str | None) -> str:
    """An id without the quotes that may stand around it in the file."""
    return (value or "").strip('"')


def _same(row: Mapping[str, Any], line: _Line) -> bool:
    """Whether a line has the value that the row was found at fault for (rows without one match by their ids)."""
    column, wanted = (row["column"], row["raw"]) if "column" in row else (c.RATING, row.get(c.RATING))
    given = line.values.get(column)
    if wanted is None or given is None:
        return True
    if isinstance(wanted, str) and given.startswith(wanted):
        return True
    try:
        left, right = np.float32(given), np.float32(wanted)
    except ValueError:
        return False
    return bool(left == right) or bool(np.isnan(left) and np.isnan(right))


def _lines(path: Path) -> Iterator[tuple[int, pa.Array]]:
    """A file's lines as text, in blocks, each with the number of its first line."""
    number, held = 1, b""
    for block in blocks(path):
        data = held + block
        end = data.rfind(b"\n") + 1
        held = data[end:]
        if end:
            lines = _split(data[:end])
            yield number, lines
            number += len(lines)
    if held:
        yield number, _split(held + b"\n")


def _split(data: bytes) -> pa.Array:
    """Lines of a block, without copying it. The bytes stand as text unchecked: only equality is asked of them."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10).astype(np.int32) + 1
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    lines = pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return pc.ascii_trim(lines, characters="\r\n")


def _field(split: pa.Array, position: int) -> pa.Array:
    """One field of split lines, its quotes taken off; null where a line is too short."""
    one = pc.list_slice(split, position, position + 1, return_fixed_size_list=True).flatten()
    return pc.ascii_trim(one, characters='"')
