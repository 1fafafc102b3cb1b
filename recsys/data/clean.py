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
    return not (_repeats(user[0], item[0], len(item[1])) or _misplaced(user[0], times, item).any())


def touched_users(chunk: pa.Table, faulty: Bools) -> tuple[Bools, pa.StructArray]:
    """Which rows are of users of whom a row is faulty, a title stands twice, or rows are out of order.

    Args:
        chunk: whole users, each one's rows together (columns.RATINGS, ids dictionary-encoded).
        faulty: [n] rows that break a rule.

    Returns:
        [n] the rows; and of those users the place of the first row (``user``, ``start``).
    """
    user, users = _codes(chunk[columns.USER_ID])
    item = _codes(chunk[columns.ITEM_ID])
    times = np.asarray(chunk[columns.TIMESTAMP].cast(pa.int64()).fill_null(int(_NO_TIME)))
    starts = np.concatenate([[0], np.flatnonzero(user[1:] != user[:-1]) + 1])
    run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(user))))
    amiss = faulty | _repeated(user, item[0], len(item[1])) | _misplaced(user, times, item)
    touched = np.bincount(run[amiss], minlength=len(starts)) > 0
    found = starts[touched]
    ids = users.take(pa.array(user[found], mask=user[found] < 0))
    places = pa.StructArray.from_arrays([ids, pa.array(found)], names=["user", "start"])
    return touched[run], places


def _repeated(user: Ints, item: Ints, n_items: int) -> Bools:
    _, place, count = np.unique(user.astype(np.int64) * (n_items + 1) + item, return_inverse=True, return_counts=True)
    result: Bools = count[place] > 1
    return result


def _breaks_a_rule(database: duckdb.DuckDBPyConnection, chunk: pa.Table, rules: Sequence[RowRule]) -> bool:
    if not rules:
        return False
    asked = " OR ".join(f"coalesce({rule.predicate}, false)" for rule in rules)
    with database.cursor() as apart:  # several threads ask
        apart.register("looked_at", chunk)
        ((count,),) = apart.sql(f"SELECT count(*) FILTER ({asked}) FROM looked_at").fetchall()
    return bool(count)


def _codes(ids: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """A column as numbers, equal for equal ids (-1: none), and the ids."""
    whole = pa.concat_arrays(ids.unify_dictionaries().chunks)
    return np.asarray(whole.indices.fill_null(-1), np.int32), whole.dictionary


def _repeats(user: Ints, item: Ints, n_items: int) -> bool:
    pairs = user.astype(np.int64) * n_items + item
    pairs.sort()
    return bool((pairs[1:] == pairs[:-1]).any())


def _misplaced(user: Ints, times: Longs, items: tuple[Ints, pa.Array]) -> Bools:
    """Which rows come before the one before them in their user's order: by time (none first), then title."""
    same = user[1:] == user[:-1]
    result = np.append(False, same & (times[1:] < times[:-1]))
    tied = np.flatnonzero(same & (times[1:] == times[:-1]) & (items[0][1:] >= 0) & (items[0][:-1] >= 0)) + 1
    before, after = (items[1].take(pa.array(items[0][at])) for at in (tied - 1, tied))
    result[tied] |= np.asarray(pc.less(after, before))
    return result
