from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.artefacts import read_table, write_table
from recsys.data.checks import REJECTED, RowRule, check_ratings, user_chunks
from recsys.errors import SourceError

NAN = float("nan")
DAY = datetime(2026, 1, 1, tzinfo=UTC)
RULES = (
    RowRule("users", "user_id", "user_id IS NULL", "is missing"),
    RowRule("users empty", "user_id", "length(user_id) < 1", "is empty"),
    RowRule("given", "rating", "rating IS NULL OR isnan(rating)", "is missing"),
    RowRule("range", "rating", "NOT isnan(rating) AND rating < 1", "is below 1"),
    RowRule("range", "rating", "NOT isnan(rating) AND rating > 5", "is above 5"),
    RowRule("time", "timestamp", "timestamp > TIMESTAMPTZ '2026-06-01'", "is after 2026-06-01"),
)


def table(rows):
    rows = [(*row, *[None] * (4 - len(row))) for row in rows]
    return pa.table([list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4, schema=columns.RATINGS)


def check(folder, rows, rules=RULES, **settings):
    source = folder / "source.parquet"
    write_table(source, rows if isinstance(rows, pa.Table) else table(rows))
    settings = {"positive_from": 4.0, **settings}
    result = check_ratings(source, folder / "good.parquet", folder / "bad.parquet", rules, **settings)
    return result, read_table(folder / "good.parquet"), read_table(folder / "bad.parquet")


def test_bad_rows_leave_and_are_counted_once_under_the_first_rule_they_break(tmp_path):
    rows = [
        ("a", "1", 5, DAY),
        ("a", "2", NAN, DAY),
        ("a", "3", None, DAY),
        ("a", "4", 7, DAY),
        ("a", "5", 0, DAY),
        ("a", "6", -1, DAY),
        ("a", "7", 7, DAY + timedelta(days=365)),
        ("b", "1", 1, DAY + timedelta(days=365)),
        ("b", "2", 1, None),
    ]
    result, good, bad = check(tmp_path, [("", "9", 3, DAY), *rows])
    assert good[columns.ITEM_ID].to_pylist() == ["1", "2"]
    assert good.schema.equals(columns.RATINGS)
    assert bad.schema.equals(REJECTED)
    assert result.reasons == {
        ("user_id", "is empty"): 1,
        ("rating", "is missing"): 2,
        ("rating", "is above 5"): 2,
        ("rating", "is below 1"): 2,
        ("timestamp", "is after 2026-06-01"): 1,
    }
    assert result.broken == {"users": 0, "users empty": 1, "given": 2, "range": 4, "time": 2}
    assert (result.rows, result.accepted, result.rejected, result.duplicates) == (10, 2, 8, 0)
    assert (result.users, result.positives, result.dated, result.items.to_pylist()) == (2, 1, 1, ["1", "2"])


def test_the_last_rating_of_a_title_stays_then_the_highest(tmp_path):
    late = DAY + timedelta(days=1)
    rows = [
        ("a", "1", 5, DAY),
        ("a", "1", 2, late),
        ("a", "2", 2, late),
        ("a", "2", 3, late),
        ("b", "1", 4, None),
        ("b", "1", 1, DAY),
        ("b", "2", 1, None),
        ("b", "2", 3, None),
    ]
    result, good, _ = check(tmp_path, rows)
    kept = [(r["user_id"], r["item_id"], r["rating"]) for r in good.to_pylist()]
    assert kept == [("a", "1", 2), ("a", "2", 3), ("b", "2", 3), ("b", "1", 1)]  # b: no time comes first
    assert (result.duplicates, result.rejected) == (4, 0)


def test_a_bad_repeat_does_not_displace_a_good_rating(tmp_path):
    result, good, _ = check(tmp_path, [("a", "1", 4, DAY), ("a", "1", 7, DAY + timedelta(days=1))])
    assert good["rating"].to_pylist() == [4]
    assert (result.duplicates, result.rejected) == (0, 1)


ROW = st.tuples(
    st.sampled_from(["a", "b", "007", "ü"]),
    st.sampled_from(["1", "2", "x y"]),
    st.sampled_from([0.0, 1.0, 3.0, 5.0, 7.0, NAN]),
    st.sampled_from([None, DAY, DAY + timedelta(hours=1)]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=40), random=st.randoms(use_true_random=False))
def test_shuffled_rows_give_the_same_result(tmp_path, rows, random):
    first, good, bad = check(tmp_path, rows, chunk_rows=1)
    shuffled = list(rows)
    random.shuffle(shuffled)
    second, good_again, bad_again = check(tmp_path, shuffled, chunk_rows=1000)
    assert good_again.equals(good)
    assert (second.reasons, second.duplicates, second.users) == (first.reasons, first.duplicates, first.users)
    assert bad.num_rows == bad_again.num_rows
    # and an independent account of it
    keys = {}
    for user, item, rating, time in rows:
        if 1 <= rating <= 5:
            rank = (time is not None, time or DAY, rating)
            keys[user, item] = max(keys.get((user, item), rank), rank)
    kept = {(r["user_id"], r["item_id"]): r["rating"] for r in good.to_pylist()}
    assert kept == {key: rank[2] for key, rank in keys.items()}
    assert first.rows == first.accepted + first.rejected + first.duplicates == len(rows)


def test_chunks_hold_whole_users_and_every_row_once(tmp_path):
    rows = table([(f"u{n // 7:03}", str(n), 3, DAY) for n in range(700)])
    write_table(tmp_path / "r.parquet", rows, row_group_size=50)
    chunks = list(user_chunks([tmp_path / "r.parquet"], 64))
    assert pa.concat_tables(chunks).equals(rows)
    users = [set(chunk["user_id"].to_pylist()) for chunk in chunks]
    assert sum(map(len, users)) == len(set.union(*users)) == 100


def test_chunks_run_on_over_several_files(tmp_path):
    rows = table([(f"u{n // 7:03}", str(n), 3, DAY) for n in range(70)])
    for number, start in enumerate((0, 30)):
        write_table(tmp_path / f"{number}.parquet", rows.slice(start, 30 if not start else 40))
    chunks = list(user_chunks([tmp_path / "0.parquet", tmp_path / "1.parquet"], 20))
    assert pa.concat_tables(chunks).equals(rows)
    assert all(chunk.num_rows % 7 == 0 for chunk in chunks)


def test_one_user_who_owns_everything_is_one_chunk(tmp_path):
    rows = table([("u", str(n), 3, DAY) for n in range(500)])
    write_table(tmp_path / "r.parquet", rows, row_group_size=50)
    assert [chunk.num_rows for chunk in user_chunks([tmp_path / "r.parquet"], 10)] == [500]
    result, good, _ = check(tmp_path, rows, chunk_rows=10)
    assert (result.users, good.num_rows) == (1, 500)


def test_rows_without_a_user_keep_together(tmp_path):
    nobody = [(None, str(n), 3, DAY) for n in range(40)]
    rows = [*nobody, *[("u", str(n), 3, DAY) for n in range(3)]]
    result, good, bad = check(tmp_path, rows, chunk_rows=5)
    assert (good.num_rows, bad.num_rows) == (3, 40)
    assert result.reasons == {("user_id", "is missing"): 40}


def test_listeners_hear_every_chunk_as_it_came_and_as_it_was_accepted(tmp_path):
    heard = []
    check(
        tmp_path,
        [("a", "1", 3, DAY), ("a", "2", 7, DAY), ("b", "1", 3, DAY)],
        chunk_rows=1,
        on_chunk=lambda came, kept: heard.append((came.num_rows, kept.num_rows)),
    )
    assert heard == [(3, 2)] or sum(came for came, _ in heard) == 3
    assert sum(kept for _, kept in heard) == 2


def test_implicit_rows_are_positive(tmp_path):
    rule = RowRule("null", "rating", "rating IS NOT NULL", "is not empty")
    result, good, _ = check(tmp_path, [("a", "1"), ("a", "2")], rules=(rule,))
    assert (result.positives, good.num_rows, result.dated) == (2, 2, 0)


def test_no_rules_and_no_rows(tmp_path):
    result, good, bad = check(tmp_path, [], rules=())
    assert (result.rows, good.num_rows, bad.num_rows, len(result.items)) == (0, 0, 0, 0)
    assert check(tmp_path, [("a", "1", 9, DAY)], rules=())[0].accepted == 1


def test_ids_stay_text_as_they_came(tmp_path):
    ids = ["007", str(2**63), "550e8400-e29b-41d4-a716-446655440000", "a b", "ни", " "]
    _, good, _ = check(tmp_path, sorted((user, item, 3, DAY) for user in ids for item in ids))
    assert set(good["user_id"].to_pylist()) == set(ids) == set(good["item_id"].to_pylist())


def test_the_result_is_sorted_by_user_time_and_title(tmp_path):
    rows = [("a", "2", 3, None), ("a", "1", 3, None), ("a", "0", 3, DAY), ("a", "9", 3, DAY - timedelta(days=1))]
    _, good, _ = check(tmp_path, rows)
    assert good["item_id"].to_pylist() == ["1", "2", "9", "0"]
    assert pq.ParquetFile(tmp_path / "good.parquet").metadata.row_group(0).sorting_columns


def test_equal_input_gives_equal_bytes(tmp_path):
    rows = [(f"u{n // 7:03}", str(n), n % 8, DAY) for n in range(700)]
    check(tmp_path, rows)
    first = (tmp_path / "good.parquet").read_bytes(), (tmp_path / "bad.parquet").read_bytes()
    check(tmp_path, rows)
    assert ((tmp_path / "good.parquet").read_bytes(), (tmp_path / "bad.parquet").read_bytes()) == first


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(SourceError, match=r"item_id is missing \(there are: user_id, rating, timestamp\)"):
        check(tmp_path, table([("a", "1", 3, DAY)]).drop_columns(["item_id"]))


def test_nothing_is_left_in_the_folder(tmp_path):
    check(tmp_path, [("b", "1", 3, DAY), ("a", "1", 3, DAY)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.parquet", "good.parquet", "source.parquet"]
    assert pc.all(pc.equal(read_table(tmp_path / "good.parquet")["user_id"], pa.array(["a", "b"]))).as_py()


def test_a_chunk_with_a_few_faults_is_what_looking_at_all_of_it_gives(tmp_path):
    rows = [(f"u{n // 9:03}", str(n % 9), 3, DAY + timedelta(hours=n)) for n in range(900)]
    rows[100] = (*rows[100][:2], 9, rows[100][3])
    rows[201], rows[202] = rows[202], rows[201]
    rows += [("u050", "3", 5, DAY + timedelta(days=60)), ("u099", "3", 4, DAY)]
    rows.sort(key=lambda row: row[0])
    result, good, bad = check(tmp_path, rows)
    latest = {}
    for row in sorted((r for r in rows if r[2] <= 5), key=lambda r: r[3]):
        latest[row[:2]] = row
    wanted = sorted(latest.values(), key=lambda r: (r[0], r[3], r[1]))
    assert [tuple(row.values()) for row in good.to_pylist()] == wanted
    assert (bad.num_rows, result.duplicates) == (1, 2)


def test_rows_without_ids_where_no_rule_wants_one(tmp_path):
    _, good, _ = check(
        tmp_path, [(None, "1", 3, DAY), (None, "1", 4, DAY), ("a", None, 3, DAY), ("a", "1", 3, DAY)], ()
    )
    assert sorted(map(str, good["user_id"].to_pylist())) == ["None", "a", "a"]
