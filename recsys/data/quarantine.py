"""The quarantine: every row kept out of the tables, with where it stood, what was wrong, and the value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns
from recsys.artefacts import open_parquet_writer
from recsys.data.checks import RowRule, utc_database
from recsys.privacy import hashed

MOST_LOCATED = 1_000
"""Ratings whose line in the source's file is looked up: each look-up reads the source again."""

Locate = Callable[[pa.Table], pa.Table]
"""From rejected ratings (:data:`recsys.data.checks.REJECTED`), in order, to a table of ``file`` and ``line``."""


@dataclass(frozen=True)
class Entry:
    """One row of the quarantine, fit to be shown: no user's id, no text longer than a line."""

    table: str
    file: str | None
    line: int | None
    column: str | None
    value: str | None
    reason: str

    @property
    def where(self) -> str:
        """File and line, as far as they are known."""
        if self.file is None:
            return self.table
        return self.file if self.line is None else f"{self.file} line {self.line}"

    @property
    def fault(self) -> str:
        """Column, value and reason as one clause: "rating 7.0 is above 5"."""
        return " ".join(part for part in (self.column, self.value, self.reason) if part)


def write_quarantine(
    path: Path,
    *,
    unreadable: Path | None,
    rejected: Path,
    rules: Sequence[RowRule],
    titles: pa.Table,
    locate: Locate | None = None,
) -> int:
    """Write the quarantine table and give its number of rows.

    Args:
        path: Parquet to write, in the schema ``columns.QUARANTINE``.
        unreadable: rows that ingestion could not read, in that schema.
        rejected: ratings turned away, as :func:`recsys.data.checks.check_ratings` writes them.
        rules: those that they were checked by.
        titles: the titles' entries, in the same schema.
        locate: finds the lines of the first :data:`MOST_LOCATED` rejected ratings.
    """
    rows = 0
    with open_parquet_writer(path, columns.QUARANTINE) as writer:
        for part in (_unreadable(unreadable), _ratings(rejected, rules, locate), iter([titles])):
            for table in part:
                rows += table.num_rows
                writer.write_table(table.cast(columns.QUARANTINE))
    return rows


def _unreadable(path: Path | None) -> Iterator[pa.Table]:
    if path is not None:
        for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches():
            yield pa.Table.from_batches([batch]).select(columns.QUARANTINE.names)


def _ratings(rejected: Path, rules: Sequence[RowRule], locate: Locate | None) -> Iterator[pa.Table]:
    first = True
    for batch in pq.ParquetFile(rejected, page_checksum_verification=True).iter_batches():
        rows = pa.Table.from_batches([batch])
        entries = _entries(rows, rules)
        yield _located(entries, rows, locate) if first and locate is not None else entries
        first = False


def _entries(rows: pa.Table, rules: Sequence[RowRule]) -> pa.Table:
    """Rejected ratings as rows of the quarantine, in order."""
    numbered = list(enumerate(rules, 1))
    named = " ".join(f"WHEN {n} THEN '{rule.column}'" for n, rule in numbered)
    valued = " ".join(f"WHEN {n} THEN CAST({rule.column} AS VARCHAR)" for n, rule in numbered)
    reasons = " ".join("WHEN {} THEN '{}'".format(n, rule.reason.replace("'", "''")) for n, rule in numbered)
    with utc_database() as database:
        database.register("rejected", rows)
        return database.sql(
            f"""SELECT 'ratings' AS "table", NULL::VARCHAR AS file, NULL::BIGINT AS line,
                       CASE fault {named} END AS "column", CASE fault {valued} END AS value,
                       CASE fault {reasons} END AS reason FROM rejected"""
        ).to_arrow_table()


def _located(entries: pa.Table, rows: pa.Table, locate: Locate) -> pa.Table:
    head = rows.slice(0, MOST_LOCATED)
    found = locate(head)
    rest = len(entries) - len(head)
    for name, kind in (("file", pa.string()), ("line", pa.int64())):
        column = pa.concat_arrays([found[name].cast(kind).combine_chunks(), pa.nulls(rest, kind)])
        entries = entries.set_column(entries.schema.get_field_index(name), name, column)
    return entries


def examples(quarantine: Path, *, per_reason: int = 5, most: int = 100) -> list[Entry]:
    """A few entries of each table and reason, those with a known line first, in order of file and line."""
    query = """
        SELECT * EXCLUDE (n) FROM (SELECT *, file_row_number AS n FROM read_parquet(?, file_row_number = true))
        QUALIFY row_number() OVER (
            PARTITION BY "table", "column", reason ORDER BY file NULLS LAST, line NULLS LAST, n) <= ?
        ORDER BY "table", "column", reason, file NULLS LAST, line NULLS LAST, n LIMIT ?"""
    with duckdb.connect() as database:
        rows = database.sql(query, params=[str(quarantine), per_reason, most]).to_arrow_table()
    return [_shown(row) for row in rows.select(columns.QUARANTINE.names).to_pylist()]


def first_entry(quarantine: Path, table: str) -> Entry | None:
    """The first entry of a table: the lowest line of the first file where lines are known."""
    query = """
        SELECT * EXCLUDE (file_row_number) FROM read_parquet(?, file_row_number = true) WHERE "table" = ?
        ORDER BY file NULLS LAST, line NULLS LAST, file_row_number LIMIT 1"""
    with duckdb.connect() as database:
        rows = database.sql(query, params=[str(quarantine), table]).to_arrow_table().to_pylist()
    return _shown(rows[0]) if rows else None


def counts_by_reason(quarantine: Path) -> list[tuple[str, str | None, str, int]]:
    """(table, column, reason, rows), the most frequent first within each table. Reasons are cut to a line."""
    query = """SELECT "table", "column", reason[:200], count(*) AS n FROM read_parquet(?)
               GROUP BY ALL ORDER BY 1, n DESC, 2, 3 LIMIT 200"""
    with duckdb.connect() as database:
        return [(t, c, _line(r), n) for t, c, r, n in database.execute(query, [str(quarantine)]).fetchall()]


def _shown(row: dict[str, object]) -> Entry:
    """An unreadable line holds a user's id as like as not, so its text stays in the table."""
    column, value = row["column"], row["value"]
    if column == columns.USER_ID and value:
        value = hashed(str(value))
    elif column not in {*columns.RATINGS.names, *columns.TITLES.names}:
        value = None
    line = row["line"]
    return Entry(
        table=str(row["table"]),
        file=_text(row["file"]),
        line=None if line is None else int(str(line)),
        column=_text(column),
        value=None if value is None else _line(str(value)) or '""',
        reason=_line(str(row["reason"])),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _line(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 80 else first[:79] + "…"
