"""Whether a chunk of ratings can be accepted as it came: asked of dictionary-encoded columns, without making text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns
from recsys.histories import Bools, Ints, Longs

if TYPE_CHECKING:
    from recsys.data.checks import RowRule

_NO_TIME = np.iinfo(np.int64).min


def is_clean(database: duckdb.DuckDBPyConnection, chunk: pa.Table, rules: Sequence[RowRule]) -> bool:
    """Whether no row breaks a rule, no title stands twice for a user, and rows are in order.

    Args:
        database: to ask the rules.
        chunk: whole users, each one's rows together (columns.RATINGS, ids dictionary-encoded).
        rules: as in :func:`recsys.data.checks.check_ratings`.
    """
    users, items = chunk[columns.USER_ID], chunk[columns.ITEM_ID]
    if users.null_count or items.null_count or _breaks_a_rule(database, chunk, rules):
        return False
    user, item = _codes(users), _codes(items)
    times = np.asarray(chunk[columns.TIMESTAMP].cast(pa.int64()).fill_null(int(_NO_TIME)))
    return not _repeats(user[0], item[0], len(item[1])) and _in_order(user[0], times, item)


def _breaks_a_rule(database: duckdb.DuckDBPyConnection, chunk: pa.Table, rules: Sequence[RowRule]) -> bool:
    if not rules:
        return False
    asked = " OR ".join(f"coalesce({rule.predicate}, false)" for rule in rules)
    with database.cursor() as apart:  # several threads ask
        apart.register("looked_at", chunk)
        ((count,),) = apart.sql(f"SELECT count(*) FILTER ({asked}) FROM looked_at").fetchall()
    return bool(count)


def _codes(ids: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """A column without nulls as numbers, equal for equal ids, and the ids."""
    whole = pa.chunked_array([pa.concat_arrays(ids.unify_dictionaries().chunks)]).chunk(0)
    return np.asarray(whole.indices, np.int32), whole.dictionary


def _repeats(user: Ints, item: Ints, n_items: int) -> bool:
    pairs = user.astype(np.int64) * n_items + item
    pairs.sort()
    return bool((pairs[1:] == pairs[:-1]).any())


def _in_order(user: Ints, times: Longs, items: tuple[Ints, pa.Array]) -> bool:
    """Whether each user's rows are sorted by time (none first), then title."""
    same: Bools = user[1:] == user[:-1]
    if (same & (times[1:] < times[:-1])).any():
        return False
    tied = np.flatnonzero(same & (times[1:] == times[:-1]))
    codes, ids = items
    return not pc.any(pc.less(ids.take(pa.array(codes[tied + 1])), ids.take(pa.array(codes[tied])))).as_py()
