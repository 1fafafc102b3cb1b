"""What is expected of the lists before they are published. The single statement of it."""

from __future__ import annotations

from typing import Any

from expectations.engine import load
from expectations.rules import meta
from recsys import columns

_LARGEST = 3.4028234663852886e38  # of float32: with not-null, a score within ±this is finite


def recommendations_suite(*, n: int) -> Any:
    """The suite over recommendations (``columns.RECOMMENDATIONS``), run over chunks of whole users.

    Args:
        n: the length of a list.
    """
    gx = load()
    gxe = gx.expectations
    required = (columns.USER_ID, columns.RANK, columns.ITEM_ID, columns.SCORE, columns.MODEL_VERSION, columns.RUN_DATE)
    unique = gxe.ExpectCompoundColumnsToBeUnique
    return gx.ExpectationSuite(
        "recommendations",
        expectations=[
            *(gxe.ExpectColumnValuesToNotBeNull(column=name, meta=meta(f"{name} is given")) for name in required),
            gxe.ExpectColumnValuesToBeBetween(
                column=columns.RANK, min_value=1, max_value=n, meta=meta(f"rank is between 1 and {n}")
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column=columns.SCORE, min_value=-_LARGEST, max_value=_LARGEST, meta=meta("score is finite")
            ),
            unique(column_list=[columns.USER_ID, columns.RANK], meta=meta("a user has one title per rank")),
            unique(column_list=[columns.USER_ID, columns.ITEM_ID], meta=meta("a title stands once in a user's list")),
        ],
    )


def recommendations_profile_suite(*, rows: int | None, users: int | None) -> Any:
    """The suite over the lists' profile, a table of one row: ``rows``, ``users``, ``gaps`` and ``unsorted``.

    Args:
        rows: lines that there must be; None: at least one.
        users: users that there must be; None: at least one.
    """
    gx = load()
    between = gx.expectations.ExpectColumnValuesToBeBetween

    def count(column: str, wanted: int | None, noun: str) -> Any:
        says = f"there are {wanted:,} {noun}" if wanted is not None else f"there are {noun}"
        return between(column=column, min_value=1 if wanted is None else wanted, max_value=wanted, meta=meta(says))

    return gx.ExpectationSuite(
        "recommendations profile",
        expectations=[
            count("rows", rows, "lines"),
            count("users", users, "users"),
            between(column="gaps", max_value=0, meta=meta("every list runs from rank 1 without a gap")),
            between(column="unsorted", max_value=0, meta=meta("lines are sorted by user, then rank")),
        ],
    )
