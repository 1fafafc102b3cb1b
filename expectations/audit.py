"""Great Expectations' verdicts: on rows as they came and as they were accepted, and on the table as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from expectations.engine import Outcome, columns_of, merge, run_suite
from expectations.ratings import ratings_profile_suite
from expectations.titles import titles_profile_suite
from recsys.data.report import Check, Limits, Profile
from recsys.errors import MarqueeError


@dataclass
class Audit:
    """What Great Expectations saw: the rows as they came, and as they were accepted."""

    table: str
    suite: Any
    came: list[Outcome] = field(default_factory=list)
    accepted: list[Outcome] = field(default_factory=list)

    def look(self, came: pa.Table, accepted: pa.Table) -> None:
        """Run the suite over a chunk before and after; once where nothing was taken out."""
        before = run_suite(self.suite, came)
        self.came += before
        self.accepted += before if accepted.num_rows == came.num_rows else run_suite(self.suite, accepted)

    def settle(self, broken: Counter[str]) -> list[Check]:
        """The checks of the rows as they came, once both engines have been found to agree.

        Raises:
            MarqueeError: they don't, or an accepted row breaks an expectation.
        """
        came, accepted = merge(self.came), merge(self.accepted)
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
                checked=outcome.checked,
                unexpected=outcome.unexpected,
                passed=outcome.success,
            )
            for outcome in came.values()
        ]


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
