import numpy as np
import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import write_table
from recsys.data.given_split import given_split
from recsys.data.split import TEST, TRAIN, VALIDATION
from recsys.errors import SourceError

NO_TITLES = columns.TITLES.empty_table()


@pytest.fixture
def file_of(tmp_path):
    def write(name, rows):
        user, item, rating, seconds = zip(*rows, strict=True)
        stamps = pa.array([None if s is None else s * 1_000_000 for s in seconds], pa.int64())
        table = pa.table(
            {"user_id": user, "item_id": item, "rating": pa.array(rating, pa.float32()),
             "timestamp": stamps.cast(pa.timestamp("us", tz="UTC"))}
        )  # fmt: skip
        write_table(tmp_path / name, table.cast(columns.RATINGS))
        return tmp_path / name

    return write


def pairs(split, histories):
    users = split.users.external(histories.user_nums).to_pylist()
    return list(zip(users, split.items.external(histories.item_nums).to_pylist(), strict=True))


def test_test_is_what_was_given_and_validation_the_last_of_train(file_of):
    train = file_of("train", [("ann", f"i{n}", 5.0, n) for n in range(10)])
    test = file_of("test", [("ann", "x", 5.0, 1), ("ann", "i3", 5.0, 99), ("bob", "y", 4.0, 1), ("ann", "z", 1.0, 2)])
    split, left_out = given_split(train, test, NO_TITLES, positive_from=4.0)
    assert left_out == 1
    assert pairs(split, split.targets(TEST)) == [("ann", "x"), ("bob", "y")]
    assert pairs(split, split.targets(VALIDATION)) == [("ann", "i8"), ("ann", "i9")]
    assert pairs(split, split.train) == [("ann", f"i{n}") for n in range(8)]
    assert set(split.items.ids.to_pylist()) == {f"i{n}" for n in range(10)} | {"x", "y", "z"}
    assert split.strategy == "per-user-temporal"


def test_without_timestamps_validation_is_drawn(file_of):
    rows = [(f"u{u}", f"i{i}", 5.0, None) for u in range(20) for i in range(20)]
    split, _ = given_split(file_of("a", rows), file_of("b", [("u1", "new", 5.0, None)]), NO_TITLES, positive_from=4.0)
    assert split.strategy == "random"
    shares = np.bincount(split.part, minlength=3)[[TRAIN, VALIDATION]] / 400
    np.testing.assert_allclose(shares, [0.8, 0.2], atol=0.06)


def test_nothing_positive_names_the_file(file_of):
    good = file_of("train", [("ann", "i", 5.0, 1), ("ann", "j", 5.0, 2)])
    bad = file_of("test", [("ann", "x", 1.0, 1)])
    with pytest.raises(SourceError, match="test: no rating is positive"):
        given_split(good, bad, NO_TITLES, positive_from=4.0)
    with pytest.raises(SourceError, match="test: no rating is positive"):
        given_split(bad, good, NO_TITLES, positive_from=4.0)


def test_windows_stay_with_their_rows_where_times_are_equal(file_of):
    train = file_of("train", [("ann", f"i{n}", 5.0, 7) for n in range(10)])
    test = file_of("test", [("ann", f"x{n}", 5.0, 7) for n in range(10)])
    split, _ = given_split(train, test, NO_TITLES, positive_from=4.0)
    assert {item[0] for _, item in pairs(split, split.targets(TEST))} == {"x"}
    assert {item[0] for _, item in pairs(split, split.fit)} == {"i"}
