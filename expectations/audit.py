"""The audit: Great Expectations against DuckDB, over the rows that decide.

Every row's checks are counted by DuckDB, by rules derived from the suite. Great Expectations runs the same suite over
all rows of every user of whom a row was turned away (what it finds there must be what DuckDB found), and over witnesses
of the accepted rows: for every column of every chunk the rows with the least value, the greatest, the shortest text,
none, and not-a-number. An expectation of a single value that the extremes meet is met by all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from expectations.engine import Outcome, columns_of, merge, run_suite
from expectations.ratings import ratings_profile_suite
from expectations.titles import titles_profile_suite
from recsys import columns
from recsys.data.report import Check, Limits, Profile
from recsys.errors import MarqueeError

_AT_ONCE = 1 << 19
"""Rows that Great Expectations is given at a time, about."""


@dataclass
class Audit:
    """What Great Expectations saw: rows as they came, and as they were accepted."""

    table: str
    suite: Any
    rows: int = 0
    """Rows that came, by whichever engine they were counted."""
    came: list[Outcome] = field(default_factory=list)
    accepted: list[Outcome] = field(default_factory=list)
    _held: dict[str, list[pa.Table]] = field(default_factory=lambda: {"came": [], "accepted": []})

    def look(self, came: pa.Table, accepted: pa.Table) -> None:
        """Take what decides out of a chunk of whole users, before and after."""
        self.rows += came.num_rows
        touched = None
        kept = np.zeros(accepted.num_rows, np.bool_)
        if accepted.num_rows != came.num_rows:
            touched = _touched(came, accepted)
            self._hold("came", came.filter(pc.is_in(came[columns.USER_ID].cast(pa.string()), value_set=touched)))
            kept |= pc.is_in(accepted[columns.USER_ID].cast(pa.string()), value_set=touched).to_numpy()
        for name in columns_of(self.suite):
            kept[witnesses(accepted[name])] = True
        self._hold("accepted", accepted.filter(pa.array(kept)))

    def _hold(self, kind: str, rows: pa.Table) -> None:
        held = self._held[kind]
        held.append(rows.cast(columns.RATINGS))
        if sum(map(len, held)) >= _AT_ONCE:
            self._run(kind)

    def _run(self, kind: str) -> None:
        held = self._held[kind]
        if held:
            getattr(self, kind).extend(run_suite(self.suite, pa.concat_tables(held)))
            held.clear()

    def settle(self, broken: Counter[str]) -> list[Check]:
        """The checks of the rows as they came, once both engines have been found to agree.

        Raises:
            MarqueeError: they don't, or an accepted row breaks an expectation.
        """
        for kind in self._held:
            self._run(kind)
        accepted = merge(self.accepted)
        came = merge(self.came) or accepted  # where nothing was turned away, witnesses of the one are of the other
        left = [outcome.says for outcome in accepted.values() if not outcome.success]
        apart = [o.says for o in came.values() if o.key in broken and o.unexpected != broken[o.key]]
        if left or apart:
            raise MarqueeError(
                f"Great Expectations and DuckDB disagree about: {'; '.join([*left, *apart])}",
                where=f"the {self.table}",
                remedy="no data were accepted; this is a fault in expectations/rules.py: report it",
            )
        return [
            Check(
                table=self.table,
                says=outcome.says,
                column=outcome.key,
                whole_table=False,
                checked=self.rows,
                unexpected=outcome.unexpected,
                passed=outcome.success,
            )
            for outcome in came.values()
        ]


def _touched(came: pa.Table, accepted: pa.Table) -> pa.Array:
    """The users of whom fewer rows were accepted than came."""
    before, after = (pc.value_counts(t[columns.USER_ID].cast(pa.string()).combine_chunks()) for t in (came, accepted))
    place = pc.index_in(before.field("values"), value_set=after.field("values"))
    left = pc.fill_null(after.field("counts").take(place), 0)
    return before.field("values").filter(pc.less(left, before.field("counts")))


def witnesses(column: pa.ChunkedArray) -> list[int]:
    """Places of the rows of a column that no other can be worse than: least, greatest, shortest, none, not a number."""
    valid = np.asarray(column.is_valid())
    found = [] if valid.all() else [int(np.argmin(valid))]
    if not valid.any():
        return found
    size = _sizes(column)
    if size.dtype.kind == "f" and np.isnan(size).any():
        found.append(int(np.argmax(np.isnan(size))))
        valid = valid & ~np.isnan(size)
    at = np.flatnonzero(valid)
    return [*found, int(at[np.argmin(size[at])]), int(at[np.argmax(size[at])])] if len(at) else found


def _sizes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[Any]]:
    """What the values of a column are compared by: themselves, or the length of text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        parts = [np.asarray(pc.utf8_length(p.dictionary))[np.asarray(p.indices.fill_null(0))] for p in column.chunks]
        return np.concatenate(parts)
    if pa.types.is_string(kind):
        return np.asarray(pc.utf8_length(column).fill_null(0))
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.int64()).fill_null(0))
    return np.asarray(column.fill_null(0))


def judge(profile: Profile, limits: Limits) -> list[Check]:
    """Hold a profile against the limits: the whole-table expectations, in order of precedence."""
    table = profile.as_table(limits.previous)
    suites = {
        "ratings": ratings_profile_suite(
            failure_budget=limits.failure_budget,
            max_unknown_titles=limits.max_unknown_titles,
            max_row_change=limits.max_row_change,
        ),
        "titles": titles_profile_suite(failure_budget=limits.failure_budget),
    }
    return [
        _whole_table(name, outcome, column, table[column][0].as_py())
        for name, suite in suites.items()
        for outcome, column in zip(run_suite(suite, table), columns_of(suite), strict=True)
    ]


def _whole_table(table: str, outcome: Outcome, column: str, observed: float | None) -> Check:
    return Check(
        table=table,
        says=outcome.says,
        column=column,
        whole_table=True,
        checked=1,
        unexpected=outcome.unexpected,
        observed=observed,
        passed=outcome.success,
    )
