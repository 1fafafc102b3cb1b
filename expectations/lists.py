"""The examination of the lists before they are published: the recommendations suite over chunks of whole users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from expectations.engine import Outcome, merge, run_suite
from expectations.recommendations import recommendations_profile_suite, recommendations_suite
from recsys import columns
from recsys.data.checks import CHUNK_ROWS, missing_columns, user_chunks
from recsys.errors import PublicationError
from recsys.privacy import hashed


class ListCheck(BaseModel):
    """One expectation of the lists, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: str
    checked: int
    unexpected: int
    passed: bool
    example: str | None
    """The first value (users hashed) that breaks it."""


class ListsReport(BaseModel):
    """What was expected of the lists, and what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: list[str]
    rows: int
    users: int
    checks: list[ListCheck]

    @property
    def passed(self) -> bool:
        """Whether the lists are fit to be published, as far as this suite goes."""
        return all(check.passed for check in self.checks)

    def raise_for_failure(self) -> None:
        """Raise for the first expectation that is not met.

        Raises:
            PublicationError: naming it, how many rows break it, and an example.
        """
        for check in self.checks:
            if not check.passed:
                example = f", the first: {check.example}" if check.example else ""
                raise PublicationError(
                    f"the lists do not meet the expectation that {check.says}"
                    f" ({check.unexpected:,} of {check.checked:,} checked do not{example})",
                    where=", ".join(self.files[:2]) + (", …" if len(self.files) > 2 else ""),
                    remedy="nothing was published, what was served is untouched; mend the cause and run again",
                )


def examine_lists(
    files: Sequence[Path], *, n: int, rows: int | None, users: int | None, chunk_rows: int = CHUNK_ROWS
) -> ListsReport:
    """Hold the lists against what is expected of them.

    Args:
        files: Parquet (``columns.RECOMMENDATIONS``), together sorted by user, then rank.
        n: the length of a list.
        rows: lines that there must be, or None.
        users: users that there must be, or None.
        chunk_rows: rows read at a time, at least.

    Raises:
        PublicationError: a column is missing.
    """
    for file in files:
        if missing := missing_columns(file, columns.RECOMMENDATIONS):
            raise PublicationError(
                f"the column {', '.join(missing)} is missing", where=str(file), remedy="make the lists again"
            )
    suite, outcomes, profile = recommendations_suite(n=n), list[Outcome](), _Profile()
    for chunk in user_chunks(files, chunk_rows):
        outcomes += run_suite(suite, chunk, with_examples=True)
        profile.add(chunk)
    outcomes = list(merge(outcomes).values())
    outcomes += run_suite(recommendations_profile_suite(rows=rows, users=users), profile.as_table(), with_examples=True)
    return ListsReport(
        files=[str(file) for file in files],
        rows=profile.figures["rows"],
        users=profile.figures["users"],
        checks=[_check(outcome) for outcome in outcomes],
    )


class _Profile:
    """The lists in figures, added up over chunks of whole users."""

    def __init__(self) -> None:
        self.figures = {"rows": 0, "users": 0, "gaps": 0, "unsorted": 0}
        self._last = ""

    def add(self, chunk: pa.Table) -> None:
        users = pc.fill_null(chunk[columns.USER_ID].combine_chunks(), "")
        ranks = pc.fill_null(chunk[columns.RANK].combine_chunks(), 0)
        same = pc.equal(users[1:], users[:-1])
        forward = pc.if_else(same, pc.greater(ranks[1:], ranks[:-1]), pc.greater(users[1:], users[:-1]))
        lists = chunk.group_by(columns.USER_ID).aggregate([(columns.RANK, "max"), (columns.RANK, "count")])
        gaps = pc.not_equal(lists[f"{columns.RANK}_max"], lists[f"{columns.RANK}_count"])
        self.figures["rows"] += chunk.num_rows
        self.figures["users"] += lists.num_rows
        self.figures["gaps"] += pc.sum(gaps).as_py() or 0
        self.figures["unsorted"] += (pc.sum(pc.invert(forward)).as_py() or 0) + (users[0].as_py() <= self._last)
        self._last = users[-1].as_py()

    def as_table(self) -> pa.Table:
        return pa.table({name: pa.array([value], pa.float64()) for name, value in self.figures.items()})


def _check(outcome: Outcome) -> ListCheck:
    return ListCheck(
        says=outcome.says,
        checked=outcome.checked,
        unexpected=outcome.unexpected,
        passed=outcome.success,
        example=_shown(outcome),
    )


def _shown(outcome: Outcome) -> str | None:
    """An unexpected value, fit to be shown: no user's id."""
    if outcome.example is None:
        return None
    if isinstance(outcome.example, dict):
        values = {k: hashed(str(v)) if k == columns.USER_ID else v for k, v in outcome.example.items()}
        return ", ".join(f"{name} {value}" for name, value in values.items())
    return str(outcome.example)
