"""The rules derived from a suite and the suite itself must call the same rows wrong: two engines, one statement."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import great_expectations as gx
import numpy as np
import pyarrow as pa
import pytest

from expectations.engine import run_suite
from expectations.ratings import EARLIEST, ratings_profile_suite, ratings_suite
from expectations.recommendations import recommendations_profile_suite, recommendations_suite
from expectations.rules import meta, row_rules
from expectations.titles import titles_profile_suite, titles_suite
from recsys import columns
from recsys.data.checks import count_broken

UNTIL = datetime(2026, 11, 26, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")


def broken_in_sql(table, rules):
    with duckdb.connect() as database:
        return count_broken(database, table, rules)


def agree(suite, table):
    """Both engines' counts of each expectation that is about single rows."""
    rules = row_rules(suite, table.schema)
    in_sql = broken_in_sql(table, rules)
    in_gx = {outcome.key: outcome.unexpected for outcome in run_suite(suite, table) if outcome.key in in_sql}
    assert in_gx == dict(in_sql)
    return in_gx


def ratings(ratings, *, users=None, items=None, times=None):
    n = len(ratings)
    return pa.table([users or ["u"] * n, items or [str(k) for k in range(n)], ratings, times or [None] * n],
                    schema=columns.RATINGS)  # fmt: skip


def test_both_engines_find_the_same_bad_ratings():
    table = ratings(
        [0, 0.5, 5, 5.0001, 7, -1, NAN, None, INF, -INF],
        users=["u", "", None, " ", "007", "u", "u", "u", "u", "u"],
        items=["i", "i", "i", "i", "i", "i", "i", "i", None, ""],
        times=[None, EARLIEST, EARLIEST - timedelta(seconds=1), UNTIL, UNTIL + timedelta(microseconds=1),
               datetime(9999, 1, 1, tzinfo=UTC), *[None] * 4],
    )  # fmt: skip
    assert agree(ratings_suite(minimum=0.5, maximum=5.0, until=UNTIL), table) == {
        "expect_column_values_to_not_be_null(user_id)": 1,
        "expect_column_value_lengths_to_be_between(user_id)": 1,
        "expect_column_values_to_not_be_null(item_id)": 1,
        "expect_column_value_lengths_to_be_between(item_id)": 1,
        "expect_column_values_to_not_be_null(rating)": 2,
        "expect_column_values_to_be_between(rating)": 6,
        "expect_column_values_to_be_between(timestamp)": 3,
    }


def test_both_engines_compare_in_the_precision_of_ratings():
    top = float(np.float32(4.9))
    assert agree(ratings_suite(minimum=0.1, maximum=top, until=UNTIL), ratings([4.9, 0.11, 4.91]))[
        "expect_column_values_to_be_between(rating)"
    ] == 1  # fmt: skip


def test_implicit_feedback_may_not_hold_ratings():
    suite = ratings_suite(minimum=None, maximum=None, until=UNTIL)
    assert agree(suite, ratings([None, 3.0, None]))["expect_column_values_to_be_null(rating)"] == 1
    assert all(outcome.success for outcome in run_suite(suite, ratings([None, None])))


def test_a_second_rating_of_a_title_breaks_the_suite_but_no_row_rule():
    suite = ratings_suite(minimum=1, maximum=5, until=UNTIL)
    table = ratings([3, 3, 3], items=["a", "a", "b"])
    assert sum(broken_in_sql(table, row_rules(suite, table.schema)).values()) == 0
    assert [outcome.unexpected for outcome in run_suite(suite, table) if not outcome.success] == [2]


def test_reasons_read_as_sentences():
    rules = row_rules(ratings_suite(minimum=0.5, maximum=5, until=UNTIL), columns.RATINGS)
    assert [f"{rule.column} {rule.reason}" for rule in rules] == [
        "user_id is missing",
        "user_id is empty",
        "item_id is missing",
        "item_id is empty",
        "rating is missing",
        "rating is below 0.5",
        "rating is above 5",
        "timestamp is before 1900-01-01",
        "timestamp is after 2026-11-26",
    ]


def test_both_engines_find_the_same_bad_titles():
    suite = titles_suite(last_year=2031)
    table = pa.table(
        {"item_id": ["1", "1", None, "", "5"], "year": pa.array([1869, 1870, 2031, 2032, None], pa.int16())}
    )
    assert agree(suite, table) == {
        "expect_column_values_to_not_be_null(item_id)": 1,
        "expect_column_value_lengths_to_be_between(item_id)": 1,
        "expect_column_values_to_be_between(year)": 2,
    }
    assert {rule.otherwise for rule in row_rules(suite, columns.TITLES) if rule.column == "year"} == {"blank"}


def test_an_expectation_without_translation_is_refused():
    suite = gx.ExpectationSuite(
        "s", expectations=[gx.expectations.ExpectColumnValuesToMatchRegex(column="user_id", regex="a", meta=meta("x"))]
    )
    with pytest.raises(ValueError, match="no row rule for expect_column_values_to_match_regex"):
        row_rules(suite, columns.RATINGS)


def test_shorter_than_a_given_length_is_said():
    suite = gx.ExpectationSuite(
        "s",
        expectations=[
            gx.expectations.ExpectColumnValueLengthsToBeBetween(column="user_id", min_value=3, meta=meta("x")),
            gx.expectations.ExpectColumnValuesToBeNull(column="item_id", meta=meta("x")),
        ],
    )
    assert [r.reason for r in row_rules(suite, columns.RATINGS)] == ["is shorter than 3 characters", "is not empty"]


def profile(**figures):
    whole = {
        "ratings_lost": 0.0,
        "titles_lost": 0.0,
        "ratings": 10,
        "positives": 1,
        "unknown_titles": 0.0,
        "row_change": 0,
    }
    return pa.table({name: pa.array([value], pa.float64()) for name, value in {**whole, **figures}.items()})


@pytest.mark.parametrize(
    ("figures", "fails"),
    [
        ({}, None),
        ({"ratings_lost": 0.001}, None),
        ({"ratings_lost": 0.00101}, "at most 0.10% of the ratings are quarantined"),
        ({"ratings": 0}, "there are ratings"),
        ({"positives": 0}, "there is a positive rating"),
        ({"unknown_titles": 0.06}, "at most 5.00% of the rated titles lack metadata"),
        ({"unknown_titles": None, "row_change": None}, None),
        ({"row_change": -0.51}, "the number of ratings is within ±50% of the last good run's"),
        ({"row_change": 0.51}, "the number of ratings is within ±50% of the last good run's"),
    ],
)
def test_the_table_as_a_whole(figures, fails):
    suite = ratings_profile_suite(failure_budget=0.001, max_unknown_titles=0.05, max_row_change=0.5)
    failed = [outcome.says for outcome in run_suite(suite, profile(**figures)) if not outcome.success]
    assert failed == ([fails] if fails else [])


def test_any_change_may_be_allowed_and_titles_have_a_budget_of_their_own():
    suite = ratings_profile_suite(failure_budget=0.001, max_unknown_titles=0.05, max_row_change=None)
    assert all(outcome.success for outcome in run_suite(suite, profile(row_change=9)))
    assert not run_suite(titles_profile_suite(failure_budget=0.001), profile(titles_lost=0.01))[0].success


def lists(rows):
    filled = [(*row, None, "1", date(2026, 11, 24)) for row in rows]
    return pa.table([list(c) for c in zip(*filled, strict=True)], schema=columns.RECOMMENDATIONS)


@pytest.mark.parametrize(
    ("row", "fails"),
    [
        (("b", 1, "1", 0.5), None),
        (("b", 3, "1", 0.5), "rank is between 1 and 2"),
        (("b", 0, "1", 0.5), "rank is between 1 and 2"),
        (("b", None, "1", 0.5), "rank is given"),
        (("b", 1, "1", NAN), "score is given"),
        (("b", 1, "1", INF), "score is finite"),
        (("b", 1, None, 0.5), "item_id is given"),
        ((None, 1, "1", 0.5), "user_id is given"),
        (("a", 1, "9", 0.5), "a user has one title per rank"),
        (("a", 2, "1", 0.5), "a title stands once in a user's list"),
    ],
)
def test_what_is_expected_of_lists(row, fails):
    found = run_suite(recommendations_suite(n=2), lists([("a", 1, "1", 0.9), row]))
    assert [outcome.says for outcome in found if not outcome.success] == ([fails] if fails else [])


def test_counts_of_lists():
    figures = pa.table({"rows": [4.0], "users": [2.0], "gaps": [0.0], "unsorted": [0.0]})
    assert all(outcome.success for outcome in run_suite(recommendations_profile_suite(rows=4, users=2), figures))
    assert all(outcome.success for outcome in run_suite(recommendations_profile_suite(rows=None, users=None), figures))
    found = run_suite(recommendations_profile_suite(rows=5, users=3), figures)
    assert [outcome.says for outcome in found if not outcome.success] == ["there are 5 lines", "there are 3 users"]
