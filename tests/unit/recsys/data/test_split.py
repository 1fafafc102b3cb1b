from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.artefacts import write_table
from recsys.data.split import TEST, TRAIN, VALIDATION, Split, make_split
from recsys.errors import SourceError

NO_TITLES = columns.TITLES.empty_table()


def ratings_file(folder: Path, rows: list[tuple[str, str, float | None, int | None]]) -> Path:
    user, item, rating, time = zip(*rows, strict=True)
    micros = pa.array([None if t is None else t * 1_000_000 for t in time], pa.int64())
    table = pa.table(
        {
            "user_id": user,
            "item_id": item,
            "rating": pa.array(rating, pa.float32()),
            "timestamp": micros.cast(pa.timestamp("us", tz="UTC")),
        }
    )
    path = folder / "ratings.parquet"
    write_table(path, table.cast(columns.RATINGS))
    return path


def ten_each(users=("u1", "u2")):
    return [(user, f"i{n}", 5.0, 100 * place + n) for place, user in enumerate(users) for n in range(10)]


def windows(split: Split, user: str) -> list[int]:
    return split.part[split.interactions.row(split.users.number(user))].tolist()


def test_per_user_temporal_counts(tmp_path):
    split = make_split(ratings_file(tmp_path, ten_each()), NO_TITLES, positive_from=4)
    assert windows(split, "u1") == [TRAIN] * 7 + [VALIDATION] + [TEST] * 2
    assert split.train.lengths.tolist() == [7, 7]
    assert split.fit.lengths.tolist() == [8, 8]


def test_leave_last_out(tmp_path):
    rows = [*ten_each(), ("one", "i0", 5.0, 1)]
    split = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4, strategy="leave-last-out")
    assert windows(split, "u1") == [TRAIN] * 8 + [VALIDATION, TEST]
    assert windows(split, "one") == [TRAIN]


def test_global_temporal_has_one_moment(tmp_path):
    split = make_split(ratings_file(tmp_path, ten_each()), NO_TITLES, positive_from=4, strategy="global-temporal")
    times = split.interactions.timestamps
    assert times[split.part == TRAIN].max() < times[split.part == VALIDATION].min()
    assert times[split.part == VALIDATION].max() < times[split.part == TEST].min()


def test_without_timestamps_it_is_random_and_says_so(tmp_path):
    rows = [(user, item, rating, None) for user, item, rating, _ in ten_each()]
    split = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4)
    assert split.strategy == "random"
    assert not split.interactions.ordered


def test_random_draw_depends_on_ids_and_seed_alone(tmp_path):
    rows = [(f"u{u}", f"i{i}", 5.0, None) for u in range(30) for i in range(30)]
    one = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4, strategy="random")
    fewer = make_split(ratings_file(tmp_path, rows[:600]), NO_TITLES, positive_from=4, strategy="random")
    other = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4, strategy="random", seed=1)
    assert windows(one, "u3") == windows(fewer, "u3")
    assert (one.part != other.part).any()
    shares = np.bincount(one.part) / len(one.part)
    np.testing.assert_allclose(shares, [0.64, 0.16, 0.2], atol=0.05)


def test_targets_are_the_positive_ones(tmp_path):
    rows = [("u", f"i{n}", 5.0 if n % 2 else 1.0, n) for n in range(10)]
    split = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4)
    assert [split.items.ids[int(i)].as_py() for i in split.targets(TEST).item_nums] == ["i9"]


def test_implicit_rows_are_positive(tmp_path):
    rows = [("u", f"i{n}", None, n) for n in range(5)]
    assert make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4).interactions.positive.all()


def test_no_positive_rating_fails(tmp_path):
    with pytest.raises(SourceError, match="no rating is positive"):
        make_split(ratings_file(tmp_path, [("u", "i", 1.0, 1)]), NO_TITLES, positive_from=4)


def test_titles_are_aligned_and_never_multiply(tmp_path):
    titles = pa.Table.from_pylist(
        [{"item_id": "i3", "title": "Three", "genres": ["War"]}, {"item_id": "new", "title": "New"},
         {"item_id": "i3", "title": "Twice"}],
        schema=columns.TITLES,
    )  # fmt: skip
    split = make_split(ratings_file(tmp_path, ten_each()), titles, positive_from=4)
    assert split.titles["item_id"].to_pylist() == split.items.ids.to_pylist()
    assert "new" in split.items.ids.to_pylist()
    row = split.titles.to_pylist()[split.items.number("i3")]
    assert (row["title"], row["genres"]) == ("Three", ["War"])
    assert split.titles.to_pylist()[split.items.number("i4")]["genres"] == []


def test_save_and_load(tmp_path):
    split = make_split(ratings_file(tmp_path, ten_each()), NO_TITLES, positive_from=4)
    split.save(tmp_path / "split")
    loaded = Split.load(tmp_path / "split")
    assert loaded.users == split.users
    assert loaded.items == split.items
    assert loaded.strategy == "per-user-temporal"
    np.testing.assert_array_equal(loaded.part, split.part)
    np.testing.assert_array_equal(loaded.fit.item_nums, split.fit.item_nums)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), st.integers(0, 50)), min_size=1, max_size=60))
def test_no_future_leaks_into_the_past(tmp_path_factory, rows):
    unique = {(u, i): t for u, i, t in rows}
    table = [(f"u{u}", f"i{i}", 5.0, t) for (u, i), t in unique.items()]
    folder = tmp_path_factory.mktemp("split")
    split = make_split(ratings_file(folder, table), NO_TITLES, positive_from=4)
    for user in range(len(split.users)):
        where = split.interactions.row(user)
        assert (np.diff(split.part[where]) >= 0).all()
        assert (np.diff(split.interactions.timestamps[where]) >= 0).all()
    fit = set(zip(split.fit.user_nums.tolist(), split.fit.item_nums.tolist(), strict=True))
    test = split.targets(TEST)
    assert not fit & set(zip(test.user_nums.tolist(), test.item_nums.tolist(), strict=True))
    assert len(split.part) == len(unique)


def test_equal_times_are_put_in_an_order_that_means_nothing(tmp_path):
    rows = [(f"u{u}", f"i{n:03d}", 5.0, 7) for u in range(200) for n in range(10)]
    split = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4)
    place = np.arange(2000) % 10
    mean_place = [place[split.interactions.item_nums == item].mean() for item in range(10)]
    np.testing.assert_allclose(mean_place, 4.5, atol=0.8)  # neither ascending nor the same for every user
    again = make_split(ratings_file(tmp_path, rows[::-1]), NO_TITLES, positive_from=4)
    np.testing.assert_array_equal(again.interactions.item_nums, split.interactions.item_nums)
