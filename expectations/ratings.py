"""What is expected of ratings: of each row, and of the table as a whole. The single statement of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from expectations.engine import load
from expectations.rules import DEDUPLICATE, meta
from recsys import columns

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""Before it a timestamp is a fault of units or of parsing."""


def ratings_suite(*, minimum: float | None, maximum: float | None, until: datetime) -> Any:
    """The suite over ratings (``columns.RATINGS``), in order of precedence.

    Args:
        minimum: of the scale, float32-exact; None with ``maximum`` where feedback is implicit.
        maximum: of the scale.
        until: the latest timestamp that can be.
    """
    gx = load()
    gxe = gx.expectations
    ids = [
        expectation
        for name in (columns.USER_ID, columns.ITEM_ID)
        for expectation in (
            gxe.ExpectColumnValuesToNotBeNull(column=name, meta=meta(f"{name} is given")),
            gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1, meta=meta(f"{name} is not empty")),
        )
    ]
    if maximum is None or minimum is None:
        value = [
            gxe.ExpectColumnValuesToBeNull(column=columns.RATING, meta=meta("there is no rating (implicit feedback)"))
        ]
    else:
        value = [
            gxe.ExpectColumnValuesToNotBeNull(column=columns.RATING, meta=meta("rating is a number")),
            gxe.ExpectColumnValuesToBeBetween(
                column=columns.RATING,
                min_value=minimum,
                max_value=maximum,
                meta=meta(f"rating is between {minimum:g} and {maximum:g}"),
            ),
        ]
    time = gxe.ExpectColumnValuesToBeBetween(
        column=columns.TIMESTAMP,
        min_value=EARLIEST,
        max_value=until,
        meta=meta(f"timestamp, where there is one, is from {EARLIEST:%Y-%m-%d} to {until:%Y-%m-%d}"),
    )
    once = gxe.ExpectCompoundColumnsToBeUnique(
        column_list=[columns.USER_ID, columns.ITEM_ID],
        meta=meta("a user rates a title once (else the last rating counts)", DEDUPLICATE),
    )
    return gx.ExpectationSuite("ratings", expectations=[*ids, *value, time, once])


def ratings_profile_suite(*, failure_budget: float, max_unknown_titles: float, max_row_change: float | None) -> Any:
    """The suite over the ratings' profile, a table of one row (``recsys.data.report.Profile``), in order of precedence.

    Args:
        failure_budget: share of rows that may have been turned away or unreadable.
        max_unknown_titles: share of rated titles that may lack metadata.
        max_row_change: relative change against the last good run that is allowed; None allows any.
    """
    gx = load()
    between = gx.expectations.ExpectColumnValuesToBeBetween
    expectations = [
        between(
            column="ratings_lost",
            max_value=failure_budget,
            meta=meta(f"at most {failure_budget:.2%} of the ratings are quarantined"),
        ),
        between(column="ratings", min_value=1, meta=meta("there are ratings")),
        between(column="positives", min_value=1, meta=meta("there is a positive rating")),
        between(
            column="unknown_titles",
            max_value=max_unknown_titles,
            meta=meta(f"at most {max_unknown_titles:.2%} of the rated titles lack metadata"),
        ),
    ]
    if max_row_change is not None:
        expectations.append(
            between(
                column="row_change",
                min_value=-max_row_change,
                max_value=max_row_change,
                meta=meta(f"the number of ratings is within ±{max_row_change:.0%} of the last good run's"),
            )
        )
    return gx.ExpectationSuite("ratings profile", expectations=expectations)
