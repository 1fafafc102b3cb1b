"""Looking at what is published: a user's list, the titles similar to one, as the service reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pydantic import BaseModel, ConfigDict

from recsys import columns
from recsys.artefacts import read_table, write_table
from recsys.catalogue import display_names
from recsys.errors import UsageError
from recsys.publish.files import SIMILAR, TOP_N, FileSink, Pointer

TITLES_FILE = "_titles.parquet"
"""Beside a generation's parts: the titles' names. Dataset readers skip names that start with an underscore."""


class Line(BaseModel):
    """One place of a list."""

    model_config = ConfigDict(frozen=True)

    rank: int
    item_id: str
    title: str
    score: float
    reason: str | None = None


class Shown(BaseModel):
    """A list, ready to be shown."""

    model_config = ConfigDict(frozen=True)

    heading: str
    generation: str
    model_version: str
    lines: list[Line]


def recommended(home: Path, user_id: str) -> Shown:
    """The published list of a user.

    Raises:
        UsageError: nothing is published yet, or the user has no list.
    """
    pointer = _pointer(home)
    rows = _rows(home, pointer, TOP_N, columns.USER_ID, user_id)
    if not rows:
        raise UsageError(
            f"user {user_id!r} has no list in the published generation {pointer.generation}",
            where=str(FileSink(home).folder(pointer)),
            remedy="check the id as the source writes it; a user who came after that night gets a list in the next one",
        )
    names = _names(home, pointer)
    lines = [_line(row, row[columns.ITEM_ID], names) for row in rows]
    return _shown(f"Recommended to user {user_id} on {pointer.run_date}", pointer, lines)


def similar_to(home: Path, item_id: str) -> Shown:
    """The titles published as similar to one.

    Raises:
        UsageError: nothing is published yet, or the title is unknown.
    """
    pointer = _pointer(home)
    names = _names(home, pointer)
    if item_id not in names:
        raise UsageError(
            f"title {item_id!r} is not in the published catalogue",
            where=str(FileSink(home).folder(pointer, SIMILAR)),
            remedy="check the id as the source writes it; a title that came after that night is in the next one",
        )
    rows = _rows(home, pointer, SIMILAR, columns.ITEM_ID, item_id)
    lines = [_line(row, row[columns.SIMILAR_ITEM_ID], names) for row in rows]
    return _shown(f"Similar to {names[item_id]}", pointer, lines)


def sample_users(home: Path, count: int) -> list[str]:
    """Some users that have a published list, spread evenly over all: the same ones for the same generation."""
    pointer = FileSink(home).current()
    if pointer is None:
        return []
    table = ds.dataset(FileSink(home).folder(pointer)).to_table(
        columns=[columns.USER_ID], filter=pc.field(columns.RANK) == 1
    )
    step = max(1, table.num_rows // max(count, 1))
    users: list[str] = table[columns.USER_ID][::step].to_pylist()
    return users[:count]


def write_names(path: Path, titles: pa.Table) -> None:
    """Write the names that this module shows, aligned with their ids."""
    write_table(path, pa.table({columns.ITEM_ID: titles[columns.ITEM_ID], columns.TITLE: display_names(titles)}))


def _pointer(home: Path) -> Pointer:
    sink = FileSink(home)
    pointer = sink.current()
    if pointer is None:
        raise UsageError("nothing is published yet", where=str(sink.pointer_path), remedy="run `marquee nightly` first")
    return pointer


def _rows(home: Path, pointer: Pointer, table: str, column: str, key: str) -> list[dict[str, Any]]:
    folder = FileSink(home).folder(pointer, table)
    found = ds.dataset(folder).to_table(filter=pc.field(column) == key).sort_by(columns.RANK)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _names(home: Path, pointer: Pointer) -> dict[str, str]:
    table = read_table(FileSink(home).folder(pointer) / TITLES_FILE)
    return dict(zip(table[columns.ITEM_ID].to_pylist(), table[columns.TITLE].to_pylist(), strict=True))


def _line(row: dict[str, Any], item_id: str, names: dict[str, str]) -> Line:
    return Line(
        rank=row[columns.RANK],
        item_id=item_id,
        title=names.get(item_id, item_id),
        score=row[columns.SCORE],
        reason=row.get(columns.REASON),
    )


def _shown(heading: str, pointer: Pointer, lines: list[Line]) -> Shown:
    return Shown(heading=heading, generation=pointer.generation, model_version=pointer.model_version, lines=lines)
