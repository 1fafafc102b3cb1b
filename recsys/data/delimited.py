"""Delimited text read by DuckDB: every line becomes a staged row, or a reject with its number and the reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from recsys.data.mapping import resolve
from recsys.data.rawfiles import TextFile, blocks, fields, first_line
from recsys.data.reading import Column, Projection, Reading, brief, literal
from recsys.data.sources.base import RawFile, RawTable
from recsys.errors import SourceError

if TYPE_CHECKING:
    from recsys.data.staging import Staging

_SHOWN = 300
"""Most characters of a bad value that a reject keeps."""


class Delimited:
    """One delimited file on its way into a staged table."""

    def __init__(self, stage: Staging, table: str, raw: RawTable, file: RawFile, number: int, text: TextFile) -> None:
        self.stage, self.table, self.raw, self.number, self.text = stage, table, raw, number, text
        self.delimiter, self.quoted, self.names = divide(first_line(text), raw, file)
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
        elif not whole:
            raise SourceError(
                f"{self.text.lines:,} lines gave only {rows:,} rows",
                where=self.text.where,
                remedy="report this as a bug",
            )
        self._keep_rejects(rejects)
        return rows

    def _read(self, table: str, project: Projection, *, quoted: bool) -> tuple[int, str]:
        """Read all rows into a table; their number, and the name of the table of DuckDB's rejects."""
        rejects = self.stage.fresh("errors")
        mark = "'\"'" if quoted else "''"
        names = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(self.names)))
        kept = ", ".join(f"'c{n}'" for n in range(len(self.names)))
        source = (
            f"read_csv('{literal(self.path)}', columns = {{{names}}}, auto_detect = false, "
            f"header = {str(self.raw.header is None).lower()}, delim = '{literal(self.delimiter)}', "
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
                f"cannot be read ({brief(error)})", where=self.text.where, remedy="check the file at that place"
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
                "line": self.text.line(lines_at(self.text.path, positions - 1)),
                "value": found["value"].cast(pa.string()),
                "kind": found["kind"].cast(pa.string()),
                "low": found["low"],
                "high": found["high"],
            }
        )
        self.stage.con.register("refused", lines)
        expected = len(self.names)
        self.stage.con.execute(f"""
            INSERT INTO rejects SELECT '{self.raw.role}', '{literal(self.text.name)}', line, NULL, value,
                CASE kind WHEN 'MISSING COLUMNS' THEN format('the line has {{}} fields, not {expected}', low)
                          WHEN 'TOO MANY COLUMNS' THEN format('the line has {{}} fields, not {expected}', high)
                          WHEN 'INVALID ENCODING' THEN 'the line is not UTF-8'
                          WHEN 'UNQUOTED VALUE' THEN 'a quote is opened or closed in the wrong place'
                          WHEN 'LINE SIZE OVER MAXIMUM' THEN 'the line is longer than 4 MB'
                          ELSE lower(kind) END
            FROM refused""")
        self.stage.con.unregister("refused")


def divide(line: str, raw: RawTable, file: RawFile) -> tuple[str, bool, list[str]]:
    """How a file's lines are divided, by its first line: the delimiter, whether fields are quoted, columns' names."""
    delimiter = raw.delimiter or _sniff(line, raw, file)
    quoted = raw.quoted if raw.quoted is not None else delimiter in (",", ";", "|")
    return delimiter, quoted, list(raw.header or (name.strip() for name in fields(line, delimiter, quoted)))


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
