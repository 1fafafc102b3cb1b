"""Row checks: which rows a rule turns away, which of a user's repeats stays. DuckDB, vectorised, in bounded memory.

What is expected is said elsewhere (``expectations/``) and arrives here as rules in SQL. Knows nothing of budgets,
reports, or where a row stood in its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns
from recsys.artefacts import open_parquet_writer
from recsys.errors import SourceError

CHUNK_ROWS = 1 << 19

_FAULT = "fault"
REJECTED = columns.RATINGS.append(pa.field(_FAULT, pa.int32()))
"""Ratings turned away, with the number (from 1) of the first rule that they break."""


@dataclass(frozen=True)
class RowRule:
    """One way for a row to be wrong."""

    check: str
    """The expectation that it belongs to."""
    column: str
    predicate: str
    """SQL over the row's columns, true (not null) where the row is wrong."""
    reason: str
    """Reads after the column and its value: "is above 5"."""
    otherwise: Literal["quarantine", "blank"] = "quarantine"
    """What becomes of a row that is wrong: it leaves, or only the value does."""


@dataclass
class RatingsCheck:
    """What checking the ratings found."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    users: int = 0
    positives: int = 0
    dated: int = 0
    """Accepted rows that have a timestamp."""
    items: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Distinct item_ids among the accepted rows."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows turned away, by (column, reason); a row counts once, under the first rule that it breaks."""
    broken: Counter[str] = field(default_factory=Counter)
    """Rows that break an expectation, by ``RowRule.check``; a row may count under several."""

    @property
    def rejected(self) -> int:
        """Rows turned away, duplicates not counted."""
        return sum(self.reasons.values())


ChunkListener = Callable[[pa.Table, pa.Table], None]
"""Called with each chunk as it came and as it was accepted (columns.RATINGS, whole users)."""


def check_ratings(
    source: Path,
    accepted: Path,
    rejected: Path,
    rules: Sequence[RowRule],
    *,
    positive_from: float,
    on_chunk: ChunkListener | None = None,
    chunk_rows: int = CHUNK_ROWS,
    memory: str = "2GB",
) -> RatingsCheck:
    """Divide a ratings file into accepted and rejected rows, and settle duplicates.

    Of several ratings of a title by a user the latest stays; among equally late ones, the highest.

    Args:
        source: Parquet in the schema ``columns.RATINGS``; read in chunks of whole users (it is sorted first, out of
            core, where it does not come sorted).
        accepted: Parquet to write, sorted by user, time (nulls first) and title.
        rejected: Parquet to write, in the schema :data:`REJECTED`.
        rules: in order of precedence.
        positive_from: least positive rating on the ratings' own scale; implicit rows are positive.
        on_chunk: hears of every chunk.
        chunk_rows: rows read at a time, at least; memory grows with it and with the longest user.
        memory: DuckDB's limit, beyond which it spills.

    Raises:
        SourceError: a column is missing.
    """
    require_columns(source, columns.RATINGS)
    result, items = RatingsCheck(), [pa.array([], pa.string())]
    order = (columns.USER_ID, columns.TIMESTAMP, columns.ITEM_ID)
    with (
        utc_database(memory_limit=memory, temp_directory=str(accepted.parent / "spill")) as database,
        open_parquet_writer(accepted, columns.RATINGS, sorted_by=order) as good,
        open_parquet_writer(rejected, REJECTED) as bad,
    ):
        sorted_source = _sorted_by_user(database, source, accepted.with_suffix(".sorted"))
        for chunk in user_chunks([sorted_source], chunk_rows):
            flagged = _flag(database, chunk, rules)
            turned_away = flagged.filter(pc.greater(flagged[_FAULT], 0))
            kept = _settle(database, flagged)
            _count(database, result, rules, chunk, turned_away, kept, positive_from)
            items.append(pc.unique(kept[columns.ITEM_ID]).cast(pa.string()))
            good.write_table(kept, row_group_size=262_144)
            if turned_away.num_rows:
                bad.write_table(turned_away.cast(REJECTED))
            if on_chunk:
                on_chunk(chunk, kept)
        accepted.with_suffix(".sorted").unlink(missing_ok=True)
    result.items = pc.unique(pa.chunked_array(items))
    return result


def require_columns(path: Path, schema: pa.Schema) -> None:
    """Refuse a table that lacks columns.

    Raises:
        SourceError: naming those that are missing and those that are there.
    """
    if missing := missing_columns(path, schema):
        raise SourceError(
            f"the column {', '.join(missing)} is missing (there are: {', '.join(pq.read_schema(path).names)})",
            where=str(path),
            remedy='name it in [source.columns], as in item_id = "movieId"',
        )


def missing_columns(path: Path, schema: pa.Schema) -> list[str]:
    """The columns of a schema that a Parquet file lacks."""
    present = set(pq.read_schema(path).names)
    return [name for name in schema.names if name not in present]


def user_chunks(files: Sequence[Path], rows: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Tables of at least ``rows`` rows (the last may be shorter) that end where a user ends.

    Args:
        files: Parquet, together sorted by user_id (nulls anywhere next to each other).
        rows: the size aimed at.
    """
    held: list[pa.RecordBatch] = []
    for batch in (b for f in files for b in pq.ParquetFile(f, page_checksum_verification=True).iter_batches(1 << 18)):
        held.append(batch)
        if sum(b.num_rows for b in held) < rows:
            continue
        users = batch[columns.USER_ID]
        last = users[-1]
        start = pc.index(users, last).as_py() if last.is_valid else pc.index(users.is_null(), True).as_py()
        if start:  # else the batch is all one user, who may have begun earlier: read on
            yield pa.Table.from_batches([*held[:-1], batch.slice(0, start)])
            held = [batch.slice(start)]
    if held:
        yield pa.Table.from_batches(held)


def utc_database(**settings: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that writes times in UTC, wherever the machine stands."""
    database = duckdb.connect(config=dict(settings))
    database.execute("SET TimeZone = 'UTC'")
    return database


def _sorted_by_user(database: duckdb.DuckDBPyConnection, source: Path, scratch: Path) -> Path:
    """The file itself where users stand together in order, else a sorted copy."""
    last = ""
    for batch in pq.ParquetFile(source).iter_batches(1 << 18, columns=[columns.USER_ID]):
        users = pc.fill_null(batch.column(0), "")
        if users[0].as_py() < last or pc.any(pc.less(users[1:], users[:-1])).as_py():
            break
        last = users[-1].as_py()
    else:
        return source
    database.execute(
        f"""COPY (SELECT {", ".join(columns.RATINGS.names)} FROM read_parquet($source)
                  ORDER BY coalesce(user_id, ''), timestamp NULLS FIRST, item_id, rating)
            TO '{str(scratch).replace("'", "''")}' (FORMAT parquet)""",
        {"source": str(source)},
    )
    return scratch


def _flag(database: duckdb.DuckDBPyConnection, chunk: pa.Table, rules: Sequence[RowRule]) -> pa.Table:
    """The chunk with a column that holds the number of the first rule a row breaks, 0 where none."""
    cases = " ".join(f"WHEN {rule.predicate} THEN {number}" for number, rule in enumerate(rules, 1))
    fault = f"CASE {cases} ELSE 0 END" if rules else "0"
    database.register("chunk", chunk)
    return database.sql(
        f"SELECT {', '.join(columns.RATINGS.names)}, ({fault})::INTEGER AS {_FAULT} FROM chunk"
    ).to_arrow_table()


def _settle(database: duckdb.DuckDBPyConnection, flagged: pa.Table) -> pa.Table:
    """The good rows, one per user and title, sorted."""
    database.register("flagged", flagged)
    kept = database.sql(
        f"""SELECT {", ".join(columns.RATINGS.names)} FROM flagged WHERE {_FAULT} = 0
            QUALIFY row_number() OVER (
                PARTITION BY user_id, item_id ORDER BY timestamp DESC NULLS LAST, rating DESC NULLS LAST) = 1
            ORDER BY user_id, timestamp NULLS FIRST, item_id"""
    ).to_arrow_table()
    return kept.cast(columns.RATINGS)


def _count(
    database: duckdb.DuckDBPyConnection,
    result: RatingsCheck,
    rules: Sequence[RowRule],
    chunk: pa.Table,
    turned_away: pa.Table,
    kept: pa.Table,
    positive_from: float,
) -> None:
    result.rows += chunk.num_rows
    result.accepted += kept.num_rows
    result.duplicates += chunk.num_rows - turned_away.num_rows - kept.num_rows
    result.users += pc.count_distinct(kept[columns.USER_ID]).as_py()
    result.dated += kept.num_rows - kept[columns.TIMESTAMP].null_count
    positive = pc.fill_null(pc.greater_equal(kept[columns.RATING], pa.scalar(positive_from, pa.float32())), True)
    result.positives += pc.sum(positive).as_py() or 0
    for entry in pc.value_counts(turned_away[_FAULT]).to_pylist():
        rule = rules[entry["values"] - 1]
        result.reasons[rule.column, rule.reason] += entry["counts"]
    if turned_away.num_rows:
        result.broken.update(count_broken(database, turned_away, rules))


def count_broken(database: duckdb.DuckDBPyConnection, rows: pa.Table, rules: Sequence[RowRule]) -> Counter[str]:
    """How many rows break each expectation, every rule asked of every row."""
    if not rules:
        return Counter()
    database.register("asked", rows)
    counts = ", ".join(f"count(*) FILTER ({rule.predicate})" for rule in rules)
    (row,) = database.sql(f"SELECT {counts} FROM asked").fetchall()
    broken: Counter[str] = Counter()
    for rule, count in zip(rules, row, strict=True):
        broken[rule.check] += count
    return broken
