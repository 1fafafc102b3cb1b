"""Row checks: which rows a rule turns away, which of a user's repeats stays. DuckDB, vectorised, in bounded memory.

What is expected is said elsewhere (``expectations/``) and arrives here as rules in SQL. Knows nothing of budgets,
reports, or where a row stood in its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns
from recsys.ahead import in_order
from recsys.artefacts import link, open_parquet_writer
from recsys.data.clean import is_clean, touched_users
from recsys.errors import SourceError

CHUNK_ROWS = 1 << 19
_ROW_GROUP = 262_144
_ORDER = (columns.USER_ID, columns.TIMESTAMP, columns.ITEM_ID)

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
        accepted: Parquet to write, sorted by user, time (nulls first) and title; the source itself, linked, where
            nothing is turned away.
        rejected: Parquet to write, in the schema :data:`REJECTED`.
        rules: in order of precedence.
        positive_from: least positive rating on the ratings' own scale; implicit rows are positive.
        on_chunk: hears of every chunk; ids may be dictionary-encoded.
        chunk_rows: rows read at a time, at least; memory grows with it and with the longest user.
        memory: DuckDB's limit, beyond which it spills.

    Raises:
        SourceError: a column is missing.
    """
    require_columns(source, columns.RATINGS)
    result, items = RatingsCheck(), [pa.array([], pa.string())]
    with (
        utc_database(memory_limit=memory, temp_directory=str(accepted.parent / "spill")) as database,
        open_parquet_writer(rejected, REJECTED) as bad,
        ThreadPoolExecutor(2) as pool,
    ):
        ordered = _sorted_by_user(database, source, accepted.with_suffix(".sorted"))
        with _Accepted(ordered, accepted, chunk_rows, whole=ordered == source and _is_ours(source)) as good:
            chunks = user_chunks([ordered], chunk_rows, encoded=True)
            for chunk, clean in in_order(pool, lambda c: (c, is_clean(database, c, rules)), chunks, 2):
                if clean:
                    kept, turned_away = chunk, REJECTED.empty_table()
                    good.keep_all(chunk)
                else:
                    flagged = _flag(database, chunk, rules)
                    turned_away = flagged.filter(pc.greater(flagged[_FAULT], 0))
                    kept = _settled(database, flagged, chunk)
                    good.keep(kept)
                _count(database, result, rules, chunk, turned_away, kept, positive_from)
                items.append(_used(kept[columns.ITEM_ID]))
                if turned_away.num_rows:
                    bad.write_table(turned_away.cast(REJECTED))
                if on_chunk:
                    on_chunk(chunk, kept)
        accepted.with_suffix(".sorted").unlink(missing_ok=True)
    result.items = pc.unique(pa.chunked_array(items))
    return result


class _Accepted:
    """The file of accepted rows: a link to the source for as long as all of it is accepted, else written."""

    def __init__(self, source: Path, path: Path, chunk_rows: int, *, whole: bool) -> None:
        self._source, self._path, self._chunk_rows = source, path, chunk_rows
        self._chunks = 0
        """Chunks accepted in full and not written."""
        self._writer = None if whole else self._open()

    def __enter__(self) -> _Accepted:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is None:
            link(self._source, self._path)
        else:
            self._writer.close()

    def keep_all(self, chunk: pa.Table) -> None:
        """Accept a chunk as it came."""
        if self._writer is None:
            self._chunks += 1
        else:
            self.keep(chunk.cast(columns.RATINGS))

    def keep(self, rows: pa.Table) -> None:
        """Accept these rows of a chunk."""
        if self._writer is None:
            self._writer = self._open()
            for chunk in islice(user_chunks([self._source], self._chunk_rows), self._chunks):
                self._writer.write_table(chunk, row_group_size=_ROW_GROUP)
        self._writer.write_table(rows, row_group_size=_ROW_GROUP)

    def _open(self) -> pq.ParquetWriter:
        return open_parquet_writer(self._path, columns.RATINGS, sorted_by=_ORDER)


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


def user_chunks(files: Sequence[Path], rows: int = CHUNK_ROWS, *, encoded: bool = False) -> Iterator[pa.Table]:
    """Tables of at least ``rows`` rows (the last may be shorter) that end where a user ends.

    Args:
        files: Parquet, together sorted by user_id (nulls anywhere next to each other).
        rows: the size aimed at.
        encoded: leave ids dictionary-encoded, as they lie in the files.
    """
    ids = [columns.USER_ID, columns.ITEM_ID] if encoded else None
    opened = (pq.ParquetFile(f, page_checksum_verification=True, read_dictionary=ids) for f in files)
    held: list[pa.RecordBatch] = []
    for batch in (b for file in opened for b in file.iter_batches(1 << 18)):
        held.append(batch)
        if sum(b.num_rows for b in held) < rows:
            continue
        users = batch[columns.USER_ID]
        users = users.indices if isinstance(users, pa.DictionaryArray) else users
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
    file = pq.ParquetFile(source, read_dictionary=[columns.USER_ID])
    for batch in file.iter_batches(1 << 18, columns=[columns.USER_ID]):
        runs = pc.run_end_encode(batch.column(0).indices).values
        users = pc.fill_null(batch.column(0).dictionary.take(runs), "")
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


def _is_ours(path: Path) -> bool:
    """Whether a file is written as accepted rows are, so that it can stand for them."""
    file = pq.ParquetFile(path)
    groups = file.metadata.num_row_groups
    order = file.metadata.row_group(0).sorting_columns if groups else ()
    wanted = [columns.RATINGS.get_field_index(name) for name in _ORDER]
    return file.schema_arrow.equals(columns.RATINGS) and [key.column_index for key in order] == wanted


def _used(ids: pa.ChunkedArray) -> pa.Array:
    """The distinct ids of a column."""
    if not pa.types.is_dictionary(ids.type):
        return pc.unique(ids).cast(pa.string())
    parts = [part.dictionary.take(pc.drop_null(pc.unique(part.indices))) for part in ids.chunks]
    return pc.unique(pa.chunked_array(parts, pa.string()))


def _flag(database: duckdb.DuckDBPyConnection, chunk: pa.Table, rules: Sequence[RowRule]) -> pa.Table:
    """The chunk with a column that holds the number of the first rule a row breaks, 0 where none."""
    cases = " ".join(f"WHEN {rule.predicate} THEN {number}" for number, rule in enumerate(rules, 1))
    fault = f"CASE {cases} ELSE 0 END" if rules else "0"
    database.register("chunk", chunk)
    return database.sql(
        f"SELECT {', '.join(columns.RATINGS.names)}, ({fault})::INTEGER AS {_FAULT} FROM chunk"
    ).to_arrow_table()


def _settled(database: duckdb.DuckDBPyConnection, flagged: pa.Table, chunk: pa.Table) -> pa.Table:
    """The good rows of a chunk, one per user and title, sorted. Only users of whom something is amiss are looked at."""
    touched, places = touched_users(chunk, flagged[_FAULT].to_numpy() > 0)
    settled = _settle(database, flagged.filter(pa.array(touched)))
    rest = chunk.filter(pa.array(~touched)).cast(columns.RATINGS)
    first = pc.index_in(settled[columns.USER_ID], value_set=places.field("user")).combine_chunks()
    starts = np.concatenate([np.flatnonzero(~touched), places.field("start").take(first).to_numpy()])
    return pa.concat_tables([rest, settled]).take(pa.array(np.argsort(starts, kind="stable"))).combine_chunks()


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
    result.users += len(_used(kept[columns.USER_ID]))
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
