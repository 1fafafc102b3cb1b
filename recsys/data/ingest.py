"""Ingestion: a configured source becomes a dataset artefact, along one path whatever the source.

Two artefacts come of it. The **dataset** is named by its content, so that the same ratings from another source are the
same dataset. The **source** is named by the configuration and the files' SHA-256s; it points at the dataset, and is
how an unchanged source is not read again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa

from recsys import columns as c
from recsys.artefacts import ArtefactRef, ArtefactStore, file_sha256, open_parquet_writer, read_manifest
from recsys.config import SourceConfig
from recsys.data import ratings_sql, titles_sql
from recsys.data.locate import find_lines
from recsys.data.sources import locate_source
from recsys.data.sources.base import Located, Note, Place, Tables, silent
from recsys.data.staging import Staging, staging
from recsys.errors import MarqueeError, SourceError

ROW_GROUP = 262_144
READER_VERSION = 1
"""Raise when the same files would be read into something else."""
FILES = ("ratings.parquet", "titles.parquet", "rejects.parquet")

Progress = Callable[[int, int | None], None]
"""Hears of rows written, and of how many there are where that is known."""


@dataclass(frozen=True)
class Ingested:
    """What an ingestion gave."""

    dataset: ArtefactRef
    source: ArtefactRef
    reused: bool
    rows: int
    rejected: int


def ingest(
    config: SourceConfig,
    home: Path,
    *,
    note: Note = silent,
    progress: Progress | None = None,
    threads: int | None = None,
    clock: datetime | None = None,
) -> Ingested:
    """Bring a source's ratings and titles into a dataset artefact, or find the one that it gave before.

    Args:
        config: the source.
        home: everything that is written lies under it.
        note: hears what is being done.
        progress: hears of ratings written.
        threads: of DuckDB (None: as many as the machine has, four at most).
        clock: the artefacts' creation time (None: now).

    Raises:
        ConfigError: the configuration names no source.
        SourceError: a file is missing, empty, damaged or lacks a column; where and how to mend it is said.
        DownloadError: the data cannot be brought just now.
        MarqueeError: the disk is full.
    """
    store = ArtefactStore(home)
    located = locate_source(config, Place(home, note))
    identity = _identity(config, located)
    known = _known(store, identity)
    if known is not None:
        return known
    with scratch_folder(home) as scratch, _explaining(home):
        made = _make(located, scratch, note, progress, threads)
        dataset = _keep_dataset(store, scratch, made, clock)
    source = _keep_source(store, identity, made, dataset, clock)
    return Ingested(dataset, source, False, made.rows["ratings"], made.rows["rejects"])


def _identity(config: SourceConfig, located: Located) -> dict[str, Any]:
    missing = [path for path in located.files if not path.is_file()]
    if missing:
        raise SourceError("there is no such file", where=str(missing[0]), remedy="mend the path under [source]")
    return {
        "source": config.model_dump(exclude_defaults=True) | {"kind": config.kind},
        "files": [[path.name, file_sha256(path)] for path in located.files],
        "version": [READER_VERSION, located.version],
    }


def _known(store: ArtefactStore, identity: dict[str, Any]) -> Ingested | None:
    source = store.find("source", {}, identity)
    if source is None:
        return None
    dataset = store.find("dataset", {}, read_manifest(source).summary["dataset_configuration"])
    if dataset is None:
        return None
    rows = read_manifest(dataset).rows
    return Ingested(dataset, source, True, rows["ratings"], rows["rejects"])


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder under home for what is needed only now. Those that dead processes left are removed."""
    parent = home / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("ingest-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"ingest-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explaining(home: Path) -> Iterator[None]:
    """Say what a full disk or a failing reader means, in place of their own words."""
    try:
        yield
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        free = shutil.disk_usage(home).free
        text = " ".join(str(error).split())[:300]
        raise MarqueeError(
            f"the data could not be brought in ({text}); {free >> 20} MB are free on that disk",
            where=str(home),
            remedy="if the disk is full, make room (twice the size of the source) or set home to another disk",
        ) from error


@dataclass(frozen=True)
class _Made:
    """Dataset files in the scratch folder, and what is to be said of them."""

    rows: dict[str, int]
    summary: dict[str, Any]


def _make(located: Located, scratch: Path, note: Note, progress: Progress | None, threads: int | None) -> _Made:
    tables = located.tables(scratch)
    with staging(scratch, note, threads=threads) as stage:
        note(f"reading {', '.join(file.name for file in tables.ratings.files[:4])}")
        stage.load(ratings_sql.STAGED, tables.ratings, ratings_sql.project)
        rows, found = ratings_sql.settle(stage)
        if found.rows == 0:
            raise _none_readable(stage, tables)
        _say(found, note)
        _reject_unreadable(stage)
        _write_ratings(stage, rows, found.rows, scratch / "ratings.parquet", progress)
        titles = _write_titles(stage, tables, scratch / "titles.parquet")
        rejects = _write_rejects(stage, scratch / "rejects.parquet")
        summary = _summary(located, tables, found, stage)
    return _Made({"ratings": found.rows, "titles": titles, "rejects": rejects}, summary)


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
    stage.con.register("file_list", pa.table({"file": range(len(stage.files)), "name": stage.files}))
    stage.con.execute("CREATE OR REPLACE TABLE file_names AS SELECT CAST(file AS INTEGER) AS file, name FROM file_list")
    bad = stage.con.sql(f"""
        SELECT u.file, f.name, user_id, item_id, {_COLUMNS} AS "column", left(raw, 300) AS raw, {_REASONS} AS reason
        FROM unreadable u JOIN file_names f USING (file) ORDER BY ALL""").to_arrow_table()
    if not len(bad):
        return
    lines = pa.chunked_array([find_lines(stage.readings, bad, stage.scratch)])
    stage.con.register("bad_rows", bad.append_column("line", lines))
    stage.con.execute("""INSERT INTO rejects SELECT 'ratings', name, line, "column", raw, reason FROM bad_rows""")
    stage.con.unregister("bad_rows")


def _write_ratings(stage: Staging, rows: str, total: int, path: Path, progress: Progress | None) -> None:
    query = f"SELECT * FROM ({rows}) ORDER BY user_id, us NULLS FIRST, item_id, rating NULLS FIRST"
    _write(stage, query, path, c.RATINGS, (c.USER_ID, c.TIMESTAMP, c.ITEM_ID), total, progress)


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
    stage.con.register("file_list", pa.table({"file": range(len(stage.files)), "name": stage.files}))
    stage.con.execute("CREATE OR REPLACE TABLE file_names AS SELECT CAST(file AS INTEGER) AS file, name FROM file_list")
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


def _summary(located: Located, tables: Tables, found: ratings_sql.Found, stage: Staging) -> dict[str, Any]:
    low, high = located.scale if located.scale and not found.implicit else (None, None)
    origin = located.provenance
    return {
        "licence": origin.licence,
        "citation": origin.citation,
        "provenance": {"name": origin.name, "url": origin.url, "checksums": dict(origin.checksums)},
        "files": [
            {"path": str(p.resolve()), "sha256": file_sha256(p), "bytes": p.stat().st_size} for p in located.files
        ],
        "reading": [asdict(reading) | {"number": n} for n, reading in stage.readings.items()],
        "rating_min": low,
        "rating_max": high,
        "timestamp_unit": found.unit,
        "has_titles": tables.titles is not None,
        "ordered": found.ordered,
        "implicit": found.implicit,
    }


def _keep_dataset(store: ArtefactStore, scratch: Path, made: _Made, clock: datetime | None) -> ArtefactRef:
    configuration = {name.removesuffix(".parquet"): file_sha256(scratch / name) for name in FILES}
    known = store.find("dataset", {}, configuration)
    if known is not None:
        return known
    with store.create("dataset", {}, configuration, clock=clock) as (draft, ref):
        for name in FILES:
            (scratch / name).rename(draft.file(name))
        draft.rows.update(made.rows)
        draft.summary.update(made.summary)
    return ref


def _keep_source(
    store: ArtefactStore, identity: dict[str, Any], made: _Made, dataset: ArtefactRef, clock: datetime | None
) -> ArtefactRef:
    with store.create("source", {}, identity, clock=clock) as (draft, ref):
        draft.rows.update(made.rows)
        draft.summary.update(made.summary)
        draft.summary["dataset"] = dataset.digest
        draft.summary["dataset_configuration"] = read_manifest(dataset).configuration
    return ref
