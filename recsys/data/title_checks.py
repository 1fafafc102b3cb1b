"""Checks of the titles: which records a rule turns away, which values it blanks, which of several records counts.

Unlike ratings, a catalogue fits in memory. Rules come from ``expectations/``, as in :mod:`recsys.data.checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns
from recsys.data.checks import RowRule, count_broken, utc_database

DUPLICATE = "repeats an earlier record"


@dataclass(frozen=True)
class TitlesCheck:
    """What checking the titles found."""

    rows: int
    accepted: pa.Table
    """columns.TITLES, sorted by item_id, one row per id, wrong values blanked."""
    quarantine: pa.Table
    """columns.QUARANTINE: records turned away, values blanked, repeats."""
    reasons: Counter[tuple[str, str]]
    """Records turned away, by (column, reason); a record counts once."""
    blanked: Counter[tuple[str, str]]
    """Values blanked in records that stayed, by (column, reason)."""
    duplicates: int
    broken: Counter[str]
    """Records that break an expectation, by ``RowRule.check``."""


def check_titles(titles: pa.Table, rules: Sequence[RowRule]) -> TitlesCheck:
    """Turn away records without an id, keep the first of several for one id, blank impossible values.

    Args:
        titles: in the schema ``columns.TITLES``, in the source's order where ids repeat.
        rules: in order of precedence.
    """
    with utc_database() as database:
        _load(database, titles, rules)
        kept = database.sql("SELECT n FROM places WHERE NOT repeats ORDER BY item_id, n").to_arrow_table()["n"]
        accepted = titles.take(kept)
        for number, rule in enumerate(rules, 1):
            if rule.otherwise == "blank":
                wrong = database.sql(f"SELECT n FROM faults WHERE rule = {number}").to_arrow_table()["n"]
                accepted = _blank(accepted, rule.column, pc.is_in(kept, wrong.combine_chunks()))
        entries = database.sql(_ENTRIES).to_arrow_table()
        broken = count_broken(database, titles, rules)
    kinds = Counter(zip(*(entries[name].to_pylist() for name in ("kind", "column", "reason")), strict=True))
    return TitlesCheck(
        rows=titles.num_rows,
        accepted=accepted.combine_chunks(),
        quarantine=entries.select(columns.QUARANTINE.names).cast(columns.QUARANTINE),
        reasons=Counter({key[1:]: n for key, n in kinds.items() if key[0] == "quarantine"}),
        blanked=Counter({key[1:]: n for key, n in kinds.items() if key[0] == "blank"}),
        duplicates=sum(n for key, n in kinds.items() if key[0] == "repeat"),
        broken=broken,
    )


def _load(database: duckdb.DuckDBPyConnection, titles: pa.Table, rules: Sequence[RowRule]) -> None:
    """Tables: titles (numbered), rules, faults (record, rule, value), places (records that stay, repeats marked)."""
    database.register("titles", titles.append_column("n", pa.array(range(titles.num_rows), pa.int64())))
    told = [(n, rule.column, rule.reason, rule.otherwise) for n, rule in enumerate(rules, 1)]
    names = ("rule", "column", "reason", "kind")
    database.register("rules", pa.table({name: [row[i] for row in told] for i, name in enumerate(names)}))
    database.execute("CREATE TABLE faults (n BIGINT, rule BIGINT, value VARCHAR)")
    for number, rule in enumerate(rules, 1):
        database.execute(
            f"INSERT INTO faults SELECT n, {number}, CAST({rule.column} AS VARCHAR) FROM titles WHERE {rule.predicate}"
        )
    database.execute(
        """CREATE TABLE places AS
           SELECT n, item_id, row_number() OVER (PARTITION BY item_id ORDER BY n) > 1 AS repeats FROM titles
           WHERE n NOT IN (SELECT n FROM faults JOIN rules USING (rule) WHERE kind = 'quarantine')"""
    )


_ENTRIES = f"""
    SELECT 'titles' AS "table", NULL AS file, NULL AS line, "column", value, reason, kind, n, rule
    FROM faults JOIN rules USING (rule) WHERE kind = 'quarantine'
    QUALIFY row_number() OVER (PARTITION BY n ORDER BY rule) = 1
    UNION ALL
    SELECT 'titles', NULL, NULL, "column", value, reason, kind, n, rule
    FROM faults JOIN rules USING (rule) JOIN places USING (n) WHERE kind = 'blank' AND NOT repeats
    UNION ALL
    SELECT 'titles', NULL, NULL, '{columns.ITEM_ID}', item_id, '{DUPLICATE}', 'repeat', n, 0 FROM places WHERE repeats
    ORDER BY n, rule"""


def _blank(table: pa.Table, column: str, where: pa.ChunkedArray) -> pa.Table:
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    return table.set_column(place, field, pc.if_else(where, pa.scalar(None, field.type), table[column]))
