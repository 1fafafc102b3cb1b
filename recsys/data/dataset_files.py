"""The three files of a dataset, made of a source's tables: ratings, titles, and what could not be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.ahead import in_order
from recsys.artefacts import open_parquet_writer
from recsys.data import ratings_sql, titles_sql
from recsys.data.fast_ratings import Fast, read_fast
from recsys.data.ledger import CHUNKS_FILE, LEDGER_FILE, Earlier, chunks_writer, write_ledger
from recsys.data.locate import find_lines
from recsys.data.pieces import Reader, load_pieces
from recsys.data.rows import groups
from recsys.data.sources.base import Note, Tables
from recsys.data.staging import Staging, staging
from recsys.errors import SourceError

ROW_GROUP = 262_144
_ORDER = (c.USER_ID, c.TIMESTAMP, c.ITEM_ID)
FILES = ("ratings.parquet", "titles.parquet", "rejects.parquet")

Progress = Callable[[int, int | None], None]
"""Hears of rows written, and of how many there are where that is known."""


@dataclass(frozen=True)
class Made:
    """Dataset files in the scratch folder, and what is to be said of them."""

    rows: dict[str, int]
    summary: dict[str, Any]
    remembered: bool = False
    """Whether :data:`recsys.data.ledger.LEDGER_FILE` and its like lie there too."""
    kept_rows: int = 0
    """Ratings taken from the earlier dataset."""
    kept_bytes: int = 0
    """Bytes of the ratings' text that were not parsed again, and those that were."""
    parsed_bytes: int = 0


def make_files(
    tables: Tables,
    scratch: Path,
    *,
    note: Note,
    progress: Progress | None = None,
    threads: int | None = None,
    earlier: Earlier | None = None,
    reader: Reader | None = None,
) -> Made:
    """Read a source's tables and write :data:`FILES` into a scratch folder.

    Args:
        tables: of the source.
        scratch: the folder.
        note: hears what is being done.
        progress: hears of ratings written.
        threads: None: as many as the machine has, four at most.
        earlier: an ingestion of the same source, to take rows from that stand in the files still.
        reader: reads several files of ratings beside each other; not asked where there is an ``earlier`` ingestion,
            which spares most of the reading.

    Raises:
        SourceError: a file is missing, empty, damaged or lacks a column; or not one rating can be read.
    """
    threads = threads or min(4, os.cpu_count() or 1)
    with staging(scratch, note, threads=threads) as stage:
        note(f"reading {', '.join(file.name for file in tables.ratings.files[:4])}")
        apart = reader if len(tables.ratings.files) > 1 and earlier is None else None
        fast = None if apart else read_fast(stage, tables.ratings, earlier, threads)
        if fast is None:
            return _make_with_care(stage, tables, progress, apart)
        found = _found(fast)
        _say(found, note)
        _reject_unreadable(stage)
        with ThreadPoolExecutor(1) as beside:  # the database is free, and the catalogue takes as long as the writing
            others = beside.submit(_write_others, stage, tables)
            _write_in_order(fast, scratch, progress)
            titles, rejects = others.result()
        summary = _summary(stage, tables, found)
    rows = {"ratings": found.rows, "titles": titles, "rejects": rejects}
    return Made(rows, summary, True, fast.kept_rows, fast.kept_bytes, fast.parsed_bytes)


def _make_with_care(stage: Staging, tables: Tables, progress: Progress | None, reader: Reader | None) -> Made:
    """The way that takes every file, in bounded memory."""
    if reader is None:
        stage.load(ratings_sql.STAGED, tables.ratings, ratings_sql.project)
    else:
        load_pieces(stage, tables.ratings, reader(tables.ratings, stage.scratch))
    rows, found = ratings_sql.settle(stage)
    if found.rows == 0:
        raise _none_readable(stage, tables)
    _say(found, stage.note)
    _reject_unreadable(stage)
    _write_ratings(stage, rows, found.rows, stage.scratch / "ratings.parquet", progress)
    titles, rejects = _write_others(stage, tables)
    return Made({"ratings": found.rows, "titles": titles, "rejects": rejects}, _summary(stage, tables, found))


def _write_others(stage: Staging, tables: Tables) -> tuple[int, int]:
    titles = _write_titles(stage, tables, stage.scratch / "titles.parquet")
    return titles, _write_rejects(stage, stage.scratch / "rejects.parquet")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that could not be written: the writer does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, " ".join(str(error).split())[:120], str(path)) from error


def _found(fast: Fast) -> ratings_sql.Found:
    rows, span = fast.rows, fast.rows.span()
    return ratings_sql.Found(
        rows=len(rows),
        implicit=rows.rated == 0,
        ordered=span is not None and rows.timed >= 0.9 * len(rows) and span[0] < span[1],
        unit=fast.unit,
    )


def _write_in_order(fast: Fast, scratch: Path, progress: Progress | None) -> None:
    """Write the ratings, and what is remembered of where they came from; one group is made while another is written."""
    done = 0
    write_ledger(scratch / LEDGER_FILE, fast.ledger)
    with (
        _naming(scratch / "ratings.parquet"),
        ThreadPoolExecutor(1) as ahead,
        open_parquet_writer(scratch / "ratings.parquet", c.RATINGS, sorted_by=_ORDER) as ratings,
        chunks_writer(scratch / CHUNKS_FILE) as chunks,
    ):
        places = groups(fast.rows, ROW_GROUP)
        for rows, numbers in in_order(ahead, lambda place: fast.rows.table(*place), places, 2):
            ratings.write_table(rows, row_group_size=ROW_GROUP)
            chunks.write_table(numbers, row_group_size=ROW_GROUP)
            done += len(rows)
            if progress is not None:
                progress(done, len(fast.rows))


def _summary(stage: Staging, tables: Tables, found: ratings_sql.Found) -> dict[str, Any]:
    return {
        "reading": [
            asdict(reading) | {"number": n} for n, reading in stage.readings.items() if n not in stage.stretches
        ],
        "timestamp_unit": found.unit,
        "has_titles": tables.titles is not None,
        "ordered": found.ordered,
        "implicit": found.implicit,
    }


def _say(found: ratings_sql.Found, note: Note) -> None:
    if found.implicit:
        note("there are no rating values: every row counts as positive")
    if found.unit not in (None, "seconds"):
        note(f"timestamps are in {found.unit}")
    if not found.ordered:
        note("there is no order in time: the split will be random")


def _none_readable(stage: Staging, tables: Tables) -> SourceError:
    _reject_unreadable(stage)
    file, line, column, reason = stage.one(
        'SELECT file, line, "column", reason FROM rejects WHERE "table" = \'ratings\' ORDER BY file, line LIMIT 1'
    )
    at = f"{file} line {line}" if line is not None else str(file)
    return SourceError(
        f"not one row of the ratings could be read; {at}: {column}: {reason}",
        where=tables.ratings.files[0].where,
        remedy="check that the file is what [source] says it is",
    )


_REASONS = f"""CASE fault
    WHEN 'quote' THEN 'a quote is opened and not closed'
    WHEN 'no_rating' THEN 'the rating is missing'
    WHEN '{c.RATING}' THEN 'not a number'
    WHEN '{c.TIMESTAMP}' THEN 'not a time: neither a number nor an ISO 8601 date'
    ELSE 'the id is empty' END"""
_COLUMNS = f"""CASE fault WHEN 'quote' THEN '{c.USER_ID}' WHEN 'no_rating' THEN '{c.RATING}' ELSE fault END"""


def _reject_unreadable(stage: Staging) -> None:
    """Add the staged rows that cannot be read to the rejects, with their lines where the files have lines."""
    if not stage.has("unreadable"):
        return
    stage.name_files()
    bad = stage.con.sql(f"""
        SELECT u.file, f.name, user_id, item_id, {_COLUMNS} AS "column", left(raw, 300) AS raw, {_REASONS} AS reason
        FROM unreadable u JOIN file_names f USING (file) ORDER BY ALL""").to_arrow_table()
    if not len(bad):
        return
    found = find_lines(stage.readings, bad, stage.scratch)
    for number, stretches in stage.stretches.items():
        found = pc.if_else(pc.equal(bad["file"].combine_chunks(), number), stretches.there(found), found)
    lines = pa.chunked_array([found])
    stage.con.register("bad_rows", bad.append_column("line", lines))
    stage.con.execute("""INSERT INTO rejects SELECT 'ratings', name, line, "column", raw, reason FROM bad_rows""")
    stage.con.unregister("bad_rows")


def _write_ratings(stage: Staging, rows: str, total: int, path: Path, progress: Progress | None) -> None:
    query = f"SELECT * FROM ({rows}) ORDER BY user_id, us NULLS FIRST, item_id, rating NULLS FIRST"
    _write(stage, query, path, c.RATINGS, _ORDER, total, progress)


def _write_titles(stage: Staging, tables: Tables, path: Path) -> int:
    if tables.titles is None:
        _write(stage, None, path, c.TITLES, (c.ITEM_ID,))
        return 0
    stage.load(titles_sql.STAGED, tables.titles, titles_sql.projection(tables.titles))
    if tables.links is not None:
        stage.load("staged_links", tables.links, titles_sql.project_links)
    if tables.tags is not None:
        stage.load("staged_tags", tables.tags, titles_sql.project_tags)
    if tables.credits is not None:
        plain = stage.con.sql(
            f"SELECT DISTINCT ON (item_id) item_id, title, year FROM {titles_sql.STAGED} ORDER BY ALL"
        )
        stage.con.register("staged_credits", tables.credits(plain.to_arrow_table()))
    stage.name_files()
    query = titles_sql.settle(
        stage,
        links=tables.links is not None,
        tags=tables.tags is not None,
        credits=tables.credits is not None,
    )
    return _write(stage, query, path, c.TITLES, (c.ITEM_ID,))


def _write_rejects(stage: Staging, path: Path) -> int:
    return _write(stage, "SELECT * FROM rejects ORDER BY ALL", path, c.QUARANTINE, ())


def _write(
    stage: Staging,
    query: str | None,
    path: Path,
    schema: pa.Schema,
    order: tuple[str, ...],
    total: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Stream a query into Parquet, in row groups of one size: equal rows, equal bytes."""
    done = 0
    with open_parquet_writer(path, schema, sorted_by=order) as writer:
        if query is None:
            writer.write_table(schema.empty_table())
            return 0
        for group in _groups(stage.con.sql(query).to_arrow_reader(1 << 16)):
            writer.write_table(_typed(group, schema), row_group_size=ROW_GROUP)
            done += len(group)
            if progress is not None:
                progress(done, total)
        if done == 0:
            writer.write_table(schema.empty_table())
    return done


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """A stream of batches as tables of exactly :data:`ROW_GROUP` rows, the last one smaller."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        held.append(batch)
        count += len(batch)
        while count >= ROW_GROUP:
            table = pa.Table.from_batches(held)
            yield table.slice(0, ROW_GROUP).combine_chunks()
            held = table.slice(ROW_GROUP).to_batches()
            count -= ROW_GROUP
    if count:
        yield pa.Table.from_batches(held).combine_chunks()


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if "us" in table.column_names:
        table = table.rename_columns([c.TIMESTAMP if name == "us" else name for name in table.column_names])
    return pa.table([table[field.name].cast(field.type) for field in schema], schema=schema)
