"""What is expected of titles: of each record, and of the table as a whole. The single statement of it."""

from __future__ import annotations

from typing import Any

from expectations.engine import load
from expectations.rules import BLANK, DEDUPLICATE, meta
from recsys import columns

FIRST_YEAR = 1870
"""Before it there was no film: a year is a fault of parsing."""


def titles_suite(*, last_year: int) -> Any:
    """The suite over titles (``columns.TITLES``), in order of precedence.

    Args:
        last_year: the latest year that an announced title can bear.
    """
    gx = load()
    gxe = gx.expectations
    name = columns.ITEM_ID
    return gx.ExpectationSuite(
        "titles",
        expectations=[
            gxe.ExpectColumnValuesToNotBeNull(column=name, meta=meta(f"{name} is given")),
            gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1, meta=meta(f"{name} is not empty")),
            gxe.ExpectColumnValuesToBeUnique(
                column=name, meta=meta("a title has one record (else the first counts)", DEDUPLICATE)
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column=columns.YEAR,
                min_value=FIRST_YEAR,
                max_value=last_year,
                meta=meta(
                    f"year, where there is one, is from {FIRST_YEAR} to {last_year} (else it is left out)", BLANK
                ),
            ),
        ],
    )


def titles_profile_suite(*, failure_budget: float) -> Any:
    """The suite over the titles' part of the profile, a table of one row.

    Args:
        failure_budget: share of records that may have been turned away or unreadable.
    """
    gx = load()
    return gx.ExpectationSuite(
        "titles profile",
        expectations=[
            gx.expectations.ExpectColumnValuesToBeBetween(
                column="titles_lost",
                max_value=failure_budget,
                meta=meta(f"at most {failure_budget:.2%} of the titles' records are quarantined"),
            )
        ],
    )
