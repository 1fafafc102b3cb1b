"""Raw tables read into DuckDB, out of core: every row of every file, or a reject that says where and why.

One path for all sources. Rows are never looped over in Python; what does not fit in memory lies in the scratch folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.mapping import resolve
from recsys.data.rawfiles import TextFile, blocks, fields, first_line, prepare
from recsys.data.sources.base import Note, RawFile, RawTable
from recsys.errors import SourceError

MEMORY_LIMIT = "1GB"
_SHOWN = 300
"""Most characters of a bad value that a reject keeps."""


@dataclass(frozen=True)
class Column:
    """A raw column in SQL: how to refer to it, its DuckDB type, and its name in the file."""

    sql: str
    type: str
    name: str
    bare: bool = False
    """Whether a quoted format was read line by line: a quote that still stands at its start was never closed."""

    @property
    def text(self) -> str:
        """Its value as text."""
        return self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"


Columns = Mapping[str, Column]
"""Our columns that a file has; flag columns are there under ``flag:<name>``."""
Projection = Callable[[Columns], str]
"""Our columns → the SELECT list that makes a staged row of them."""


@dataclass(frozen=True)
class Reading:
    """How a delimited file was read, to find lines in it again."""

    role: str
    file: RawFile
    delimiter: str
    header_line: bool
    positions: Mapping[str, int]


class Staging:
    """A DuckDB database in a scratch folder, with what has been read so far."""

    def __init__(self, con: duckdb.DuckDBPyConnection, scratch: Path, note: Note) -> None:
        self.con = con
        self.scratch = scratch
        self.note = note
        self.files: list[str] = []
        """Names by the number that staged rows carry."""
        self.readings: dict[int, Reading] = {}
        self._count = 0

    def load(self, table: str, raw: RawTable, project: Projection) -> int:
        """Read a raw table's files into a staged table; the rows that came in (rejected lines are not among them).

        Raises:
            SourceError: a file is missing, empty, damaged, or lacks a column; or not one row could be read.
        """
        rows = sum(self._load_file(table, raw, file, project) for file in raw.files)
        if rows == 0:
            raise self._nothing(raw)
        return rows

    def number(self, file: RawFile) -> int:
        """A number for a file, for staged rows to carry."""
        self.files.append(file.name)
        return len(self.files) - 1

    def _load_file(self, table: str, raw: RawTable, file: RawFile, project: Projection) -> int:
        number = self.number(file)
        if raw.layout == "parquet":
            return self._load_parquet(table, raw, file, number, project)
        text = prepare(file, self.scratch)
        if text.remark:
            self.note(f"{file.name}: {text.remark}")
        return _Delimited(self, table, raw, file, number, text).load(project)

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
            raise SourceError(f"cannot be read ({_brief(error)})", where=file.where, remedy=_DAMAGED) from None
        finally:
            self.con.unregister(view)

    def fresh(self, stem: str) -> str:
        """A name that no table has yet."""
        self._count += 1
        return f"{stem}_{self._count}"

    def insert(self, table: str, query: str) -> int:
        """Add a query's rows to a table, made if it is not there; how many they were."""
        if self.one(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'")[0]:
            return int(self.one(f"INSERT INTO {table} BY NAME {query}")[0])
        self.con.execute(f"CREATE TABLE {table} AS {query}")
        return int(self.one(f"SELECT count(*) FROM {table}")[0])

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


class _Delimited:
    """One delimited file on its way into a staged table."""

    def __init__(self, stage: Staging, table: str, raw: RawTable, file: RawFile, number: int, text: TextFile) -> None:
        self.stage, self.table, self.raw, self.number, self.text = stage, table, raw, number, text
        line = first_line(text)
        self.delimiter = raw.delimiter or _sniff(line, raw, file)
        self.quoted = raw.quoted if raw.quoted is not None else self.delimiter in (",", ";", "|")
        self.names = list(raw.header or (name.strip() for name in fields(line, self.delimiter, self.quoted)))
        self.positions = resolve(raw.role, self.names, raw.mapping, raw.required, where=file.where)
        stage.readings[number] = Reading(raw.role, file, self.delimiter, raw.header is None, self.positions)
        # A link of our own naming: the reader takes *, ? and [ in a path for a pattern.
        self.path = stage.scratch / f"{stage.fresh('text')}.txt"
        self.path.symlink_to(text.path.resolve())

    def load(self, project: Projection) -> int:
        """Read it; where quotes swallowed lines, read it again without them and keep what gives more rows."""
        quoted = self.quoted and self.text.has_quotes
        rows, rejects = self._read(self.table, project, quoted=quoted)
        whole = rows + self._refused(rejects) + (self.raw.header is None) >= self.text.lines
        if quoted and not whole:
            attempt = self.stage.fresh("attempt")
            plain_rows, plain_rejects = self._read(attempt, project, quoted=False)
            if plain_rows > rows:
                self.stage.con.execute(f"DELETE FROM {self.table} WHERE file = {self.number}")
                rows, rejects = self.stage.insert(self.table, f"SELECT * FROM {attempt}"), plain_rejects
                self.stage.note(f"{self.text.name}: a stray quote; read line by line")
            self.stage.con.execute(f"DROP TABLE {attempt}")
        self._keep_rejects(rejects)
        return rows

    def _read(self, table: str, project: Projection, *, quoted: bool) -> tuple[int, str]:
        """Read all rows into a table; their number, and the name of the table of DuckDB's rejects."""
        rejects = self.stage.fresh("errors")
        mark = "'\"'" if quoted else "''"
        names = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(self.names)))
        kept = ", ".join(f"'c{n}'" for n in range(len(self.names)))
        source = (
            f"read_csv('{_quoted(self.path)}', columns = {{{names}}}, auto_detect = false, "
            f"header = {str(self.raw.header is None).lower()}, delim = '{_quoted(self.delimiter)}', "
            f"quote = {mark}, escape = {mark}, force_not_null = [{kept}], strict_mode = true, max_line_size = 4000000, "
            f"parallel = {str(not quoted).lower()}, store_rejects = true, rejects_limit = 0, "
            f"rejects_table = '{rejects}', rejects_scan = '{rejects}_scan')"
        )
        strip = self.quoted and self.text.has_quotes and not quoted
        columns = {
            ours: Column(_unquoted(f"c{n}") if strip else f"c{n}", "VARCHAR", self.names[n], bare=strip)
            for ours, n in self.positions.items()
        }
        flags = {name for words in self.raw.flags.values() for name in words}
        columns |= {f"flag:{name}": Column(f"c{self.names.index(name)}", "VARCHAR", name) for name in flags}
        try:
            return self.stage.insert(table, f"SELECT {project(columns)}, {self.number} AS file FROM {source}"), rejects
        except duckdb.InvalidInputException as error:
            raise SourceError(
                f"cannot be read ({_brief(error)})", where=self.text.where, remedy="check the file at that place"
            ) from None

    def _refused(self, rejects: str) -> int:
        """How many rows DuckDB refused (one may span lines: then a quote has swallowed some)."""
        if not self._has_rejects(rejects):
            return 0
        return int(self.stage.one(f"SELECT count(DISTINCT line_byte_position) FROM {rejects}")[0])

    def _has_rejects(self, rejects: str) -> bool:
        return bool(self.stage.one(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{rejects}'")[0])

    def _keep_rejects(self, rejects: str) -> None:
        """Turn DuckDB's errors into rejects, one a line, with the line's number in the raw file."""
        if not self._has_rejects(rejects):
            return
        # Empty lines before a refused one count as part of it: where it begins is behind them.
        query = f"""
            SELECT line_byte_position
                     + any_value(length(csv_line) - length(ltrim(csv_line, chr(13) || chr(10)))) AS position,
                   any_value(left(trim(csv_line, chr(13) || chr(10)), {_SHOWN})) AS value,
                   min(error_type) AS kind, min(column_name) AS column_name,
                   min(try_cast(regexp_extract(error_message, 'Found: (\\d+)', 1) AS INTEGER)) AS low,
                   max(try_cast(regexp_extract(error_message, 'Found: (\\d+)', 1) AS INTEGER)) AS high
            FROM {rejects} GROUP BY line_byte_position ORDER BY line_byte_position"""
        found = self.stage.con.sql(query).to_arrow_table()
        if not len(found):
            return
        positions = found["position"].fill_null(1).to_numpy().astype(np.int64)
        lines = pa.table(
            {
                "line": lines_at(self.text.path, positions - 1),
                "value": found["value"].cast(pa.string()),
                "kind": found["kind"].cast(pa.string()),
                "low": found["low"],
                "high": found["high"],
            }
        )
        self.stage.con.register("refused", lines)
        expected = len(self.names)
        self.stage.con.execute(f"""
            INSERT INTO rejects SELECT '{self.raw.role}', '{_quoted(self.text.name)}', line, NULL, value,
                CASE kind WHEN 'MISSING COLUMNS' THEN format('the line has {{}} fields, not {expected}', low)
                          WHEN 'TOO MANY COLUMNS' THEN format('the line has {{}} fields, not {expected}', high)
                          WHEN 'INVALID ENCODING' THEN 'the line is not UTF-8'
                          WHEN 'UNQUOTED VALUE' THEN 'a quote is opened or closed in the wrong place'
                          WHEN 'LINE SIZE OVER MAXIMUM' THEN 'the line is longer than 4 MB'
                          ELSE lower(kind) END
            FROM refused""")
        self.stage.con.unregister("refused")


def lines_at(path: Path, positions: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """The numbers (from 1) of the lines at byte positions, which ascend."""
    result = np.empty(len(positions), np.int64)
    before, start, done = 0, 0, 0
    for block in blocks(path):
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + start
        upto = int(np.searchsorted(positions, start + len(block)))
        result[done:upto] = before + np.searchsorted(ends, positions[done:upto]) + 1
        before, start, done = before + len(ends), start + len(block), upto
        if done == len(positions):
            break
    result[done:] = before + 1
    return pa.array(result)


def _sniff(line: str, raw: RawTable, file: RawFile) -> str:
    """The delimiter under which the header has most of the columns that we know."""

    def known(delimiter: str) -> tuple[int, int]:
        names = fields(line, delimiter, delimiter in (",", ";", "|"))
        try:
            return len(resolve(raw.role, names, raw.mapping, raw.required, where="")), len(names)
        except SourceError:
            return 0, len(names)

    usual = "\t" if re.search(r"\.(tsv|tab|inter|item)(\.|$)", file.name.lower()) else ","
    return max((usual, ",", "\t", "::", ";", "|"), key=known)


def _unquoted(sql: str) -> str:
    """A field read without quoting, its own quotes taken off."""
    inner = f"replace(substr({sql}, 2, length({sql}) - 2), '\"\"', '\"')"
    return f"(CASE WHEN length({sql}) > 1 AND {sql} LIKE '\"%\"' THEN {inner} ELSE {sql} END)"


def _open_parquet(file: RawFile) -> pq.ParquetFile:
    if not file.path.is_file():
        raise SourceError("there is no such file", where=file.where, remedy="mend the path under [source]")
    try:
        return pq.ParquetFile(file.path, page_checksum_verification=True, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"is not a whole Parquet file ({_brief(error)})", where=file.where, remedy=_DAMAGED) from None


def _renamed(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    """The batches under other names; categories are read as their values."""
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in schema]
    plain = pa.schema([pa.field(name, type_) for name, type_ in zip(schema.names, types, strict=True)])
    decoded = (
        pa.RecordBatch.from_arrays([a.cast(t) for a, t in zip(batch.columns, types, strict=True)], schema=plain)
        for batch in batches
    )
    return pa.RecordBatchReader.from_batches(plain, decoded)


def _brief(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:200]


def _quoted(text: object) -> str:
    return str(text).replace("'", "''")


_DAMAGED = "bring the file again: it is cut off or damaged"
