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


def some_each(lengths: dict[str, int]):
    return [(user, f"i{n}", 5.0 if n % 3 else 1.0, n) for user, length in lengths.items() for n in range(length)]


def strong(folder, rows, seed=0):
    return make_split(
        ratings_file(folder, rows), NO_TITLES, positive_from=4, strategy="strong-generalisation", seed=seed
    )


def pairs(histories) -> set[tuple[int, int]]:
    return set(zip(histories.user_nums.tolist(), histories.item_nums.tolist(), strict=True))


def test_strong_generalisation_holds_out_whole_users(tmp_path):
    split = strong(tmp_path, some_each({f"u{n:03d}": 10 for n in range(400)}))
    of_user = split.part.reshape(400, 10)
    assert (of_user == of_user[:, :1]).all()
    np.testing.assert_allclose(np.bincount(of_user[:, 0]) / 400, [0.64, 0.16, 0.2], atol=0.06)
    assert not split.interactions.ordered
    for window in (VALIDATION, TEST):
        mine = np.flatnonzero(of_user[:, 0] == window)
        assert split.fold_in.reshape(400, 10)[mine].sum(axis=1).tolist() == [8] * len(mine)
        known, wanted = split.known(window), split.targets(window)
        assert np.flatnonzero(wanted.lengths).tolist() == sorted(set(mine) & set(np.flatnonzero(wanted.lengths)))
        assert not pairs(known) & pairs(wanted)
        assert known.lengths[mine].tolist() == [8] * len(mine)
        assert wanted.positive.all()
        liked = split.interactions.where((split.part == window) & split.interactions.positive)
        assert pairs(liked) - pairs(known) == pairs(wanted)
    assert not split.train.lengths[of_user[:, 0] != TRAIN].any()
    assert split.fit.lengths[of_user[:, 0] == VALIDATION].tolist() == [10] * int((of_user[:, 0] == VALIDATION).sum())
    assert not split.fit.lengths[of_user[:, 0] == TEST].any()
    assert pairs(split.fit) < pairs(split.known(TEST))


def test_strong_generalisation_draws_by_ids_and_seed_alone(tmp_path):
    rows = some_each({f"u{n:03d}": 12 for n in range(60)})
    one, again, other = strong(tmp_path, rows), strong(tmp_path, rows[::-1]), strong(tmp_path, rows, seed=1)
    np.testing.assert_array_equal(one.part, again.part)
    np.testing.assert_array_equal(one.fold_in, again.fold_in)
    assert (one.part != other.part).any()
    fewer = strong(tmp_path, [row for row in rows if row[0] != "u010"])
    assert windows(fewer, "u020") == windows(one, "u020")


def test_strong_generalisation_reads_short_histories_whole(tmp_path):
    lengths = {f"u{n:03d}": 1 + n % 6 for n in range(300)}
    split = strong(tmp_path, some_each(lengths))
    held = [user for user in range(300) if split.part[split.interactions.row(user)][0] == TEST]
    for user in held:
        n = split.interactions.lengths[user]
        assert split.fold_in[split.interactions.row(user)].sum() == (n if n < 5 else n - 1)
    assert {int(split.interactions.lengths[user]) for user in held} == {1, 2, 3, 4, 5, 6}


def test_strong_generalisation_comes_back(tmp_path):
    split = strong(tmp_path, some_each({f"u{n}": 8 for n in range(30)}))
    split.save(tmp_path / "split")
    loaded = Split.load(tmp_path / "split")
    np.testing.assert_array_equal(loaded.fold_in, split.fold_in)
    assert pairs(loaded.known(TEST)) == pairs(split.known(TEST))
    assert loaded.strategy == "strong-generalisation"


@pytest.mark.parametrize("strategy", ["per-user-temporal", "global-temporal", "leave-last-out", "random"])
def test_what_is_known_of_a_window_is_what_came_before(tmp_path, strategy):
    split = make_split(ratings_file(tmp_path, ten_each()), NO_TITLES, positive_from=4, strategy=strategy)
    assert pairs(split.known(VALIDATION)) == pairs(split.train)
    assert pairs(split.known(TEST)) == pairs(split.fit)
    assert split.interactions.ordered == (strategy != "random")


def test_global_temporal_users_who_come_late_have_no_history(tmp_path):
    rows = [*ten_each(), ("late", "i1", 5.0, 10_000), ("late", "i2", 5.0, 10_001), ("once", "i3", 5.0, 0)]
    split = make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4, strategy="global-temporal")
    late = split.users.number("late")
    assert split.known(TEST).lengths[late] == 0
    assert split.targets(TEST).lengths[late] == 2
    assert windows(split, "once") == [TRAIN]


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("global-temporal", [(f"u{u}", f"i{i}", 5.0, 7) for u in range(5) for i in range(5)]),
        ("per-user-temporal", [("u", f"i{n}", 5.0 if n == 4 else 1.0, n) for n in range(5)]),
    ],
)
def test_a_split_that_leaves_nothing_to_learn_from_is_refused(tmp_path, strategy, rows):
    with pytest.raises(SourceError, match=f"{strategy} split leaves nothing positive"):
        make_split(ratings_file(tmp_path, rows), NO_TITLES, positive_from=4, strategy=strategy)
