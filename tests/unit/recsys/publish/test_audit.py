from datetime import date

import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import write_table
from recsys.errors import PublicationError
from recsys.publish.audit import audit

GOOD = [("ann", 1, "c", 0.9), ("ann", 2, "d", 0.5), ("bob", 1, "a", 0.8), ("bob", 2, "b", 0.8)]


@pytest.fixture
def check(tmp_path):
    """Audit these lines for ann, who saw a and b, and bob, who saw c; a–d may be shown, two each."""
    ratings = pa.table({"user_id": ["ann", "ann", "bob"], "item_id": ["a", "b", "c"], "rating": [5.0] * 3})
    write_table(tmp_path / "ratings.parquet", ratings)

    def run(lines, listable=("a", "b", "c", "d"), n=2):
        user, rank, item, score = zip(*lines, strict=True)
        table = pa.table(
            {
                "user_id": pa.array(user, pa.string()), "rank": pa.array(rank, pa.int16()),
                "item_id": pa.array(item, pa.string()),
                "score": pa.array(score, pa.float32()), "reason": pa.array([None] * len(lines), pa.string()),
                "model_version": ["1"] * len(lines), "run_date": pa.array([date(2026, 11, 24)] * len(lines)),
            },
            columns.RECOMMENDATIONS,
        )  # fmt: skip
        write_table(tmp_path / "part-00000.parquet", table)
        return audit(tmp_path, tmp_path / "ratings.parquet", pa.array(listable), n=n)

    return run


def test_whole_lists_pass(check):
    report = check(GOOD)
    assert (report.rows, report.users, report.titles_shown, report.short_lists) == (4, 2, 4, 0)
    assert len(report.checks) == 8


def test_short_lists_pass_only_where_the_pool_is_small(check):
    assert check([*GOOD[:2], ("bob", 1, "a", 0.8), ("bob", 2, "b", 0.7), ("bob", 3, "d", 0.1)], n=3).short_lists == 1
    with pytest.raises(PublicationError, match="too long or too short"):
        check(GOOD[:3])
    with pytest.raises(PublicationError, match="too long or too short"):
        check(GOOD[:2])


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        ("a value is missing", [*GOOD[:3], ("bob", 2, "b", None)]),
        ("a value is missing", [*GOOD[:3], ("bob", 2, "b", float("nan"))]),
        ("stands twice", [*GOOD[:3], ("bob", 2, "a", 0.7)]),
        ("ranks are not", [*GOOD[:3], ("bob", 3, "b", 0.7)]),
        ("ranks are not", [("ann", 0, "c", 0.9), ("ann", 1, "d", 0.5), *GOOD[2:]]),
        ("not sorted", [*GOOD[:3], ("bob", 2, "b", 0.9)]),
        ("has been seen", [*GOOD[:3], ("bob", 2, "c", 0.7)]),
        ("may not be shown", [*GOOD[:3], ("bob", 2, "z", 0.7)]),
        ("belongs to nobody", [*GOOD, ("eve", 1, "a", 0.7), ("eve", 2, "b", 0.7)]),
    ],
)
def test_each_fault_is_refused_by_name_without_showing_ids(check, fault, lines):
    with pytest.raises(PublicationError, match=fault) as raised:
        check(lines)
    assert "bob" not in str(raised.value)
    assert "ann" not in str(raised.value)


def test_what_a_user_rated_and_may_not_be_shown_leaves_the_pool_as_it_is(check):
    lines = [*GOOD[:2], ("bob", 1, "a", 0.8), ("bob", 2, "b", 0.7), ("bob", 3, "d", 0.1)]
    with pytest.raises(PublicationError, match="too long or too short"):
        check(lines, listable=("a", "b", "c", "d", "e"), n=3)  # ann saw a and b: e is left for her too
    assert check(lines, listable=("b", "c", "d", "a"), n=4).short_lists == 2


def test_what_does_not_fit_is_spilled_where_it_is_told_to(tmp_path, check):
    check(GOOD)
    parts, spill = tmp_path, tmp_path / "spill"
    assert audit(parts, tmp_path / "ratings.parquet", pa.array(["a", "b", "c", "d"]), n=2, spill=spill).rows == 4
    assert not spill.exists()
