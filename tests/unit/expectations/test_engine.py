import os
from concurrent.futures import ThreadPoolExecutor

import great_expectations as gx
import pyarrow as pa
import pytest

from expectations.engine import merge, run_suite
from expectations.rules import meta
from recsys.errors import MarqueeError

NAN = float("nan")


def between(column="x", **bounds):
    return gx.expectations.ExpectColumnValuesToBeBetween(column=column, meta=meta("x is in range"), **bounds)


def test_outcomes_come_in_the_suites_order_with_counts_and_examples():
    suite = gx.ExpectationSuite(
        "s",
        expectations=[
            between(min_value=0, max_value=5),
            gx.expectations.ExpectColumnValuesToNotBeNull(column="x", meta=meta("x is given")),
            gx.expectations.ExpectCompoundColumnsToBeUnique(column_list=["x", "y"], meta=meta("pairs are unique")),
        ],
    )
    table = pa.table({"x": [1.0, 7.0, NAN, 1.0], "y": [1, 1, 1, 1], "unused": [[1]] * 4})
    found = run_suite(suite, table, with_examples=True)
    assert [outcome.says for outcome in found] == ["x is in range", "x is given", "pairs are unique"]
    assert [(o.success, o.checked, o.unexpected) for o in found] == [(False, 4, 1), (False, 4, 1), (False, 4, 2)]
    assert found[0].example == 7.0
    assert found[2].example == {"x": 1.0, "y": 1}


def test_an_exception_is_told_from_bad_data():
    suite = gx.ExpectationSuite("s", expectations=[between(min_value=0)])
    with pytest.raises(MarqueeError, match="could not be evaluated") as caught:
        run_suite(suite, pa.table({"x": pa.array(["text", "more"])}))
    assert "says nothing about the data" in str(caught.value)


def test_parts_of_one_table_add_up():
    suite = gx.ExpectationSuite("s", expectations=[between(min_value=0, max_value=5)])
    parts = [run_suite(suite, pa.table({"x": values}), with_examples=True) for values in ([1.0, 2.0], [9.0], [8.0])]
    (total,) = merge(outcome for part in parts for outcome in part).values()
    assert (total.success, total.checked, total.unexpected, total.example) == (False, 4, 2, 9.0)


def test_suites_run_from_several_threads():
    def count(n):
        suite = gx.ExpectationSuite("s", expectations=[between(min_value=0, max_value=5)])
        return run_suite(suite, pa.table({"x": [9.0] * n + [1.0]}))[0].unexpected

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(1, 9))) == list(range(1, 9))


def test_telemetry_is_off():
    run_suite(gx.ExpectationSuite("s", expectations=[between(min_value=0)]), pa.table({"x": [1.0]}))
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
