"""Why a night may not go on: the whole-table expectations that failed, as one paragraph for a person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recsys.data.report import Report
from recsys.errors import SourceError


def refusal(report: Report, folder: Path) -> SourceError:
    """Why the night may not go on, as an error for a person.

    Args:
        report: one that has not passed.
        folder: where the report and the quarantine lie.
    """
    check = report.failures[0]
    what, where, remedy = _REFUSALS[check.column](report)
    others = [other.says for other in report.failures[1:]]
    also = f" (nor does this hold: {'; '.join(others)})" if others else ""
    return SourceError(what + also, where=where, remedy=f"{remedy}. The report is {folder / 'report.html'}")


def _lost(report: Report, table: str, lost: float, rows: int, of: int) -> tuple[str, str, str]:
    counts = ", ".join(
        f"{count.rows:,} × {' '.join(filter(None, (count.column, count.reason)))}"
        for count in [c for c in report.reasons if c.table == table][:5]
    )
    first = report.first.get(table)
    begins = f"{first.fault}; " if first else ""
    return (
        f"{begins}{rows:,} of {of:,} {table} ({100 * lost:.3g} %; the budget is"
        f" {100 * report.limits.failure_budget:g} %) were set aside: {counts}",
        first.where if first else table,
        "mend the file, or correct [source] rating_min and rating_max if the scale is another one, or raise"
        " [validation] failure_budget; all rows set aside are in quarantine.parquet beside the report",
    )


def _ratings_lost(report: Report) -> tuple[str, str, str]:
    p = report.profile
    unread = p.ratings_unreadable
    return _lost(report, "ratings", p.ratings_lost, p.ratings_quarantined + unread, p.ratings_read + unread)


def _titles_lost(report: Report) -> tuple[str, str, str]:
    p = report.profile
    unread = p.titles_unreadable
    return _lost(report, "titles", p.titles_lost, p.titles_quarantined + unread, p.titles_read + unread)


def _empty(report: Report) -> tuple[str, str, str]:
    return "there are no ratings", report.source, "check that the source is the right one and is complete"


def _nothing_positive(report: Report) -> tuple[str, str, str]:
    return (
        f"no rating is positive: none of {report.profile.ratings:,} is at least {report.scale.positive_from:g}"
        f" (the scale goes to {report.scale.maximum:g})",
        report.source,
        "lower [ratings] positive_from, or set [source] rating_max to the top of the scale",
    )


def _unknown_titles(report: Report) -> tuple[str, str, str]:
    p = report.profile
    return (
        f"{p.rated_without_title:,} of {p.items:,} rated titles have no record among the {p.titles:,} titles"
        f" ({p.unknown_titles or 0:.2%}; at most {report.limits.max_unknown_titles:.2%} may lack one)",
        report.source,
        "check that ratings and titles use the same ids and are of the same day, or raise [validation]"
        " max_unknown_titles",
    )


def _row_change(report: Report) -> tuple[str, str, str]:
    p, previous = report.profile, report.limits.previous
    return (
        f"{p.ratings:,} ratings, {p.row_change(previous) or 0:+.0%} against the last good run's {previous:,}"
        f" (at most ±{report.limits.max_row_change or 0:.0%})",
        report.source,
        "check that the source is complete; if the change is right, set [validation] allow_row_change = true"
        " for one run",
    )


_REFUSALS: dict[str, Callable[[Report], tuple[str, str, str]]] = {
    "ratings_lost": _ratings_lost,
    "titles_lost": _titles_lost,
    "ratings": _empty,
    "positives": _nothing_positive,
    "unknown_titles": _unknown_titles,
    "row_change": _row_change,
}
