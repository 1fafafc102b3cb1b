"""The audit: are these lists whole and allowed? Asked in SQL of the files themselves, not of what made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from recsys.errors import PublicationError
from recsys.privacy import hashed


@dataclass(frozen=True)
class AuditReport:
    """What the audit saw."""

    rows: int
    users: int
    titles_shown: int
    short_lists: int
    checks: tuple[str, ...]


_FAULTS = {
    "a value is missing": """
        SELECT user_id, item_id FROM lists
        WHERE user_id IS NULL OR item_id IS NULL OR rank IS NULL OR score IS NULL OR NOT isfinite(score)
           OR model_version IS NULL OR run_date IS NULL""",
    "a title stands twice in a user's list": """
        SELECT user_id, item_id FROM lists GROUP BY ALL HAVING count(*) > 1""",
    "ranks are not 1, 2, 3, …": """
        SELECT user_id, min(item_id) AS item_id FROM lists GROUP BY user_id
        HAVING min(rank) <> 1 OR max(rank) <> count(*) OR count(DISTINCT rank) <> count(*)""",
    "a list is not sorted by score": """
        SELECT user_id, item_id FROM (
            SELECT user_id, item_id, score > lag(score) OVER (PARTITION BY user_id ORDER BY rank) AS rises FROM lists)
        WHERE rises""",
    "a title has been seen by its user": """
        SELECT user_id, item_id FROM lists SEMI JOIN ratings USING (user_id, item_id)""",
    "a title may not be shown (unknown, blocked, or outside its availability)": """
        SELECT user_id, item_id FROM lists ANTI JOIN listable USING (item_id)""",
    "a list belongs to nobody": """
        SELECT user_id, item_id FROM lists ANTI JOIN (SELECT DISTINCT user_id FROM ratings) USING (user_id)""",
    "a user has no list, or one that is too long or too short": """
        WITH rated AS (SELECT user_id, count(*) AS ratings FROM ratings GROUP BY user_id),
        close AS (  -- only of these are the different titles counted: whoever rated little has n titles left
            SELECT user_id FROM rated WHERE (SELECT count(*) FROM listable) - ratings < $n),
        pool AS (
            SELECT r.user_id, (SELECT count(*) FROM listable) - count(l.item_id) AS left_over
            FROM (SELECT DISTINCT user_id, item_id FROM ratings SEMI JOIN close USING (user_id)) r
            LEFT JOIN listable l USING (item_id) GROUP BY r.user_id),
        given AS (SELECT user_id, count(*) AS lines FROM lists GROUP BY user_id)
        SELECT user_id, NULL AS item_id FROM rated LEFT JOIN pool USING (user_id) LEFT JOIN given USING (user_id)
        WHERE coalesce(lines, 0) <> least(coalesce(left_over, $n), $n)""",
}


def audit(
    folder: Path, ratings: Path, listable: pa.Array, *, n: int, memory: str = "2GB", spill: Path | None = None
) -> AuditReport:
    """Check a generation's ``part-*.parquet`` before anyone sees it.

    Args:
        folder: of the lists.
        ratings: the validated ratings: who the users are and what they have seen.
        listable: item_ids that may be shown tonight.
        n: the length that lists must have, unless fewer titles are left for a user.
        memory: DuckDB's; what does not fit goes to ``spill``.
        spill: a directory, made and removed again where it is needed (None: what does not fit is an error).

    Raises:
        PublicationError: a fault, with an example (the user hashed) and how many there are.
    """
    with duckdb.connect(config={"memory_limit": memory, "temp_directory": str(spill or "")}) as database:
        database.execute(f"CREATE VIEW lists AS FROM read_parquet({_literal(folder / 'part-*.parquet')})")
        database.execute(f"CREATE VIEW ratings AS FROM read_parquet({_literal(ratings)})")
        database.register("listable_arrow", pa.table({"item_id": listable}))
        database.execute("CREATE TABLE listable AS FROM listable_arrow")
        for fault, query in _FAULTS.items():
            _refuse(database, fault, query, n, folder)
        row = database.execute(
            """SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM lists"""
        ).fetchone()
        short = database.execute(
            "SELECT count(*) FROM (SELECT user_id FROM lists GROUP BY user_id HAVING count(*) < $n)", {"n": n}
        ).fetchone()
    assert row is not None
    assert short is not None
    return AuditReport(rows=row[0], users=row[1], titles_shown=row[2], short_lists=short[0], checks=tuple(_FAULTS))


def _refuse(database: duckdb.DuckDBPyConnection, fault: str, query: str, n: int, folder: Path) -> None:
    found = database.execute(
        f"SELECT count(*), min((user_id, item_id)) FROM ({query})", {"n": n} if "$n" in query else None
    )
    count, example = found.fetchone() or (0, None)
    if count:
        user_id, item_id = example.values() if isinstance(example, dict) else example or (None, None)
        whose = hashed(user_id) if user_id is not None else "no user"
        raise PublicationError(
            f"the audit refused the lists: {fault} ({count:,} cases, the first: {whose}, title {item_id!r})",
            where=str(folder),
            remedy="nothing was published, what was served is untouched; look at the lists there and mend the cause",
        )


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
