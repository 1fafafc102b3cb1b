"""Raw tables read into DuckDB, out of core: every row of every file, or a reject that says where and why.

One path for all sources. Rows are never looped over in Python; what does not fit in memory lies in the scratch folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.delimited import Delimited
from recsys.data.mapping import resolve
from recsys.data.rawfiles import Stretches, TextFile, prepare
from recsys.data.reading import DAMAGED, Column, Projection, Reading, brief
from recsys.data.sources.base import Note, RawFile, RawTable
from recsys.errors import SourceError

MEMORY_LIMIT = "1GB"


class Staging:
    """A DuckDB database in a scratch folder, with what has been read so far."""

    def __init__(self, con: duckdb.DuckDBPyConnection, scratch: Path, note: Note) -> None:
        self.con = con
        self.scratch = scratch
        self.note = note
        self.files: list[str] = []
        """Names by the number that staged rows carry."""
        self.readings: dict[int, Reading] = {}
        self.stretches: dict[int, Stretches] = {}
        """Of texts put together of stretches of another file, which has a number and a reading of its own."""
        self._count = 0

    def load(self, table: str, raw: RawTable, project: Projection) -> int:
        """Read a raw table's files into a staged table; the rows that came in (rejected lines are not among them).

        Raises:
            SourceError: a file is missing, empty, damaged, or lacks a column; or not one row could be read.
        """
        rows = sum(self.load_file(table, raw, file, project) for file in raw.files)
        self.expect_rows(raw, rows)
        return rows

    def load_text(self, table: str, raw: RawTable, file: RawFile, text: TextFile, project: Projection) -> int:
        """Read a text put together of stretches of a file into a staged table; the rows that came in."""
        assert text.stretches is not None
        number = self.number(file)
        self.stretches[number] = text.stretches
        rows = Delimited(self, table, raw, file, number, text).load(project)
        self.readings[number] = replace(self.readings[number], file=RawFile(text.path))
        return rows

    def forget(self, table: str) -> None:
        """Undo what has been read so far."""
        self.con.execute(f"DROP TABLE IF EXISTS {table}; DROP TABLE IF EXISTS unreadable; DELETE FROM rejects")
        self.files.clear()
        self.readings.clear()
        self.stretches.clear()

    def number(self, file: RawFile) -> int:
        """A number for a file, for staged rows to carry."""
        self.files.append(file.name)
        return len(self.files) - 1

    def name_files(self) -> None:
        """Make the table ``file_names`` (file, name) of what has been read so far."""
        self.con.register("file_list", pa.table({"file": range(len(self.files)), "name": self.files}))
        self.con.execute(
            "CREATE OR REPLACE TABLE file_names AS SELECT CAST(file AS INTEGER) AS file, name FROM file_list"
        )

    def expect_rows(self, raw: RawTable, rows: int) -> None:
        """Hold that some rows came in of a raw table.

        Raises:
            SourceError: there were none.
        """
        if rows == 0:
            raise self._nothing(raw)

    def load_file(self, table: str, raw: RawTable, file: RawFile, project: Projection) -> int:
        """Read one of a raw table's files: see :meth:`load`. It may have no rows."""
        number = self.number(file)
        if raw.layout == "parquet":
            return self._load_parquet(table, raw, file, number, project)
        text = prepare(file, self.scratch)
        if text.remark:
            self.note(f"{file.name}: {text.remark}")
        try:
            return Delimited(self, table, raw, file, number, text).load(project)
        finally:
            if text.copied:
                text.path.unlink(missing_ok=True)

    def _load_parquet(self, table: str, raw: RawTable, file: RawFile, number: int, project: Projection) -> int:
        parquet = _open_parquet(file)
        names = parquet.schema_arrow.names
        resolved = resolve(raw.role, names, raw.mapping, raw.required, where=file.where)
        wanted = sorted(set(resolved.values()))
        schema = pa.schema([parquet.schema_arrow.field(n) for n in wanted])
        batches = parquet.iter_batches(columns=[names[n] for n in wanted], batch_size=1 << 16)
        reader = _renamed(pa.schema([pa.field(f"c{n}", schema.field(k).type) for k, n in enumerate(wanted)]), batches)
        view = self.fresh("parquet")
        self.con.register(view, reader)
        try:
            types = dict(self.con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {view})").fetchall())
            columns = {ours: Column(f"c{n}", types[f"c{n}"], names[n]) for ours, n in resolved.items()}
            return self.insert(table, f"SELECT {project(columns)}, {number} AS file FROM {view}")
        except (duckdb.InvalidInputException, duckdb.ConversionException, pa.ArrowException) as error:
            raise SourceError(f"cannot be read ({brief(error)})", where=file.where, remedy=DAMAGED) from None
        finally:
            self.con.unregister(view)

    def fresh(self, stem: str) -> str:
        """A name that no table has yet."""
        self._count += 1
        return f"{stem}_{self._count}"

    def insert(self, table: str, query: str) -> int:
        """Add a query's rows to a table, made if it is not there; how many they were."""
        if self.has(table):
            return int(self.one(f"INSERT INTO {table} BY NAME {query}")[0])
        self.con.execute(f"CREATE TABLE {table} AS {query}")
        return int(self.one(f"SELECT count(*) FROM {table}")[0])

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return bool(self.one(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'")[0])

    def one(self, query: str) -> tuple[Any, ...]:
        """A query's only row."""
        rows = self.con.execute(query).fetchall()
        return tuple(rows[0]) if rows else ()

    def _nothing(self, raw: RawTable) -> SourceError:
        first = self.one("SELECT file, line, reason FROM rejects ORDER BY file, line LIMIT 1")
        where = raw.files[0].where
        if not first:
            return SourceError(
                f"there are no rows under the header of the {raw.role}",
                where=where,
                remedy="check what wrote the file, and bring it again",
            )
        return SourceError(
            f"not one row of the {raw.role} could be read; {first[0]} line {first[1]}: {first[2]}",
            where=where,
            remedy="check that the file is what [source] says it is",
        )


@contextmanager
def staging(scratch: Path, note: Note, *, threads: int | None = None) -> Iterator[Staging]:
    """A database for one ingestion, bounded in memory, spilling into ``scratch``."""
    con = duckdb.connect(
        str(scratch / "staging.duckdb"),
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(scratch / "spill"),
            "threads": threads or min(4, os.cpu_count() or 1),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(
            'CREATE TABLE rejects ("table" VARCHAR, file VARCHAR, line BIGINT, '
            '"column" VARCHAR, value VARCHAR, reason VARCHAR)'
        )
        yield Staging(con, scratch, note)
    finally:
        con.close()


def _open_parquet(file: RawFile) -> pq.ParquetFile:
    if not file.path.is_file():
        raise SourceError("there is no such file", where=file.where, remedy="mend the path under [source]")
    try:
        return pq.ParquetFile(file.path, page_checksum_verification=True, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"is not a whole Parquet file ({brief(error)})", where=file.where, remedy=DAMAGED) from None


def _renamed(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    """The batches under other names; categories are read as their values."""
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in schema]
    plain = pa.schema([pa.field(name, type_) for name, type_ in zip(schema.names, types, strict=True)])
    decoded = (
        pa.RecordBatch.from_arrays([a.cast(t) for a, t in zip(batch.columns, types, strict=True)], schema=plain)
        for batch in batches
    )
    return pa.RecordBatchReader.from_batches(plain, decoded)
