"""The validation report: what was checked, what was found, and whether the night may go on.

JSON for programs, HTML for people. No user's id stands in it; text from the data is escaped wherever it is shown.
Knows nothing of who ran the checks.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from recsys.data.quarantine import Entry


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Part):
    """The tables in figures."""

    ratings_read: int
    """Rows that could be read, duplicates and faults included."""
    ratings_unreadable: int
    ratings_quarantined: int
    """Read, but turned away."""
    ratings: int
    """Accepted."""
    duplicates: int
    users: int
    items: int
    """Titles that somebody rated."""
    positives: int
    dated: int
    titles_read: int
    titles_unreadable: int
    titles_quarantined: int
    titles: int
    titles_duplicates: int
    titles_blanked: int
    """Values left out of records that stayed."""
    has_titles: bool
    rated_without_title: int
    """Rated titles that have no record."""
    coverage: dict[str, float] = {}
    """Share of the titles' records in which a column says something."""

    @property
    def ratings_lost(self) -> float:
        """Share of the ratings' rows that were turned away or could not be read."""
        return _share(self.ratings_quarantined + self.ratings_unreadable, self.ratings_read + self.ratings_unreadable)

    @property
    def titles_lost(self) -> float:
        """Share of the titles' records that were turned away or could not be read."""
        return _share(self.titles_quarantined + self.titles_unreadable, self.titles_read + self.titles_unreadable)

    @property
    def unknown_titles(self) -> float | None:
        """Share of the rated titles without metadata; None where the source has no titles at all."""
        return _share(self.rated_without_title, self.items) if self.has_titles else None

    def row_change(self, previous: int | None) -> float | None:
        """Relative change of the number of ratings against the last good run; None where there was none."""
        return None if not previous else (self.ratings - previous) / previous

    def as_table(self, previous: int | None) -> pa.Table:
        """One row: what the profile suites are about. What does not apply is null."""
        row = {
            "ratings_lost": self.ratings_lost,
            "titles_lost": self.titles_lost,
            "ratings": self.ratings,
            "positives": self.positives,
            "unknown_titles": self.unknown_titles,
            "row_change": self.row_change(previous),
        }
        return pa.table({name: pa.array([value], pa.float64()) for name, value in row.items()})


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


class Limits(_Part):
    """What the profile was held against."""

    failure_budget: float
    max_unknown_titles: float
    max_row_change: float | None
    """None: any change is allowed."""
    previous: int | None
    """Ratings of the last good run."""


class Check(_Part):
    """One expectation and what came of it."""

    table: str
    says: str
    column: str
    """The column of the table, or the figure of the profile."""
    whole_table: bool
    checked: int
    unexpected: int
    observed: float | None = None
    """Of a whole table: the figure."""
    passed: bool
    """Of rows: none had to be turned away. Of a whole table: the night may go on."""


class ReasonCount(_Part):
    """Rows of the quarantine with one reason."""

    table: str
    column: str | None
    reason: str
    rows: int


class Example(_Part):
    """One row of the quarantine, fit to be shown."""

    where: str
    fault: str


class ScaleFigures(_Part):
    """The ratings' scale."""

    minimum: float | None
    maximum: float | None
    origin: str
    positive_from: float


class Report(_Part):
    """All of it."""

    dataset: str
    source: str
    licence: str | None
    citation: str | None
    scale: ScaleFigures
    profile: Profile
    limits: Limits
    checks: list[Check]
    reasons: list[ReasonCount]
    examples: list[Example]
    first: dict[str, Example] = {}
    """By table: the first row that was quarantined."""

    @property
    def failures(self) -> list[Check]:
        """The whole-table expectations that were not met, in order of precedence."""
        return [check for check in self.checks if check.whole_table and not check.passed]

    @property
    def passed(self) -> bool:
        """Whether the night may go on."""
        return not self.failures


def example_of(entry: Entry) -> Example:
    """An entry of the quarantine as the report shows it."""
    return Example(where=entry.where, fault=entry.fault)


def coverage(titles: pa.Table) -> dict[str, float]:
    """Share of the records in which each column says something (text not empty, list not empty)."""
    return {
        field.name: round(_share(_filled(titles[field.name], field.type), titles.num_rows), 4)
        for field in titles.schema
    }


def _filled(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    if pa.types.is_list(kind):
        lengths = pc.list_value_length(column)
    elif pa.types.is_string(kind):
        lengths = pc.utf8_length(column)
    else:
        return len(column) - int(column.null_count)
    return pc.sum(pc.greater(lengths, 0)).as_py() or 0


def render(report: Report) -> str:
    """The report as one HTML page without scripts or remote assets."""
    return _environment().get_template("validation.html.j2").render(report=report, profile=report.profile)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{100 * value:.4g} %"
    return environment
