import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.ids import MISSING, IdMap
from recsys.errors import MarqueeError


def test_awkward_ids_stay_as_they_are():
    ids = ["007", "7", str(2**63 + 1), "b2c3-…", " x ", "电影", "0"]
    assert sorted(IdMap.of(ids).ids.to_pylist()) == sorted(ids)


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=1, max_size=20))
def test_round_trip(ids):
    mapping = IdMap.of(sorted(ids))
    numbers = np.arange(len(mapping), dtype=np.int32)
    assert mapping.numbers(mapping.external(numbers)).tolist() == numbers.tolist()
    assert all(mapping.number(text) == n for n, text in enumerate(mapping.ids.to_pylist()))


def test_unknown_ids_fail_by_name_or_are_marked():
    mapping = IdMap.of(["a", "b"])
    with pytest.raises(MarqueeError, match="'z'"):
        mapping.numbers(["a", "z"])
    assert mapping.numbers(["z", "b"], missing="mark").tolist() == [MISSING, 1]
    assert mapping.number("z") is None


def test_chunked_columns_and_repeats():
    mapping = IdMap.of(pa.chunked_array([["b", "a"], ["a", None]]))
    assert mapping.ids.to_pylist() == ["a", "b"]
    assert mapping.numbers(pa.chunked_array([["b"], ["a", "b"]])).tolist() == [1, 0, 1]


def test_repeated_or_missing_ids_are_no_map():
    for bad in (["a", "a"], ["a", None]):
        with pytest.raises(ValueError, match="unique"):
            IdMap(pa.array(bad))


def test_equality_and_digest(tmp_path):
    one, other = IdMap.of(["a", "b"]), IdMap.of(["b", "a"])
    assert one == other
    assert one.digest == other.digest != IdMap.of(["ab"]).digest
    one.save(tmp_path / "ids.parquet", "user_id")
    assert IdMap.load(tmp_path / "ids.parquet") == one
