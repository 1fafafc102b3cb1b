import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.histories import Histories


@pytest.fixture
def three() -> Histories:
    """User 0: titles 3, 1, 2 (1 disliked); user 1: nothing; user 2: title 0."""
    return Histories(
        indptr=np.array([0, 3, 3, 4]),
        item_nums=np.array([3, 1, 2, 0], np.int32),
        ratings=np.array([5, 1, 4, 4], np.float32),
        positive=np.array([True, False, True, True]),
        timestamps=np.array([10, 20, 30, 5]),
        n_items=5,
    )


def test_lengths_ages_and_rows(three):
    assert three.lengths.tolist() == [3, 0, 1]
    assert three.ages.tolist() == [2, 1, 0, 0]
    assert three.user_nums.tolist() == [0, 0, 0, 2]
    assert three.item_nums[three.row(2)].tolist() == [0]


def test_select_reorders_users(three):
    chosen = three.select(np.array([2, 1, 0]))
    assert chosen.lengths.tolist() == [1, 0, 3]
    assert chosen.item_nums.tolist() == [0, 3, 1, 2]
    assert chosen.timestamps.tolist() == [5, 10, 20, 30]


def test_positives_and_last(three):
    assert three.positives().item_nums.tolist() == [3, 2, 0]
    assert three.positives().lengths.tolist() == [2, 0, 1]
    assert three.last(1).item_nums.tolist() == [2, 0]


def test_recency_decays_by_age(three):
    np.testing.assert_allclose(three.recency(2.0), np.exp([-1.0, -0.5, 0.0, 0.0]), rtol=1e-6)
    assert three.unordered().recency(2.0).tolist() == [1, 1, 1, 1]


def test_unordered_sorts_by_title(three):
    plain = three.unordered()
    assert not plain.ordered
    assert plain.item_nums.tolist() == [1, 2, 3, 0]
    assert plain.ratings.tolist() == [1, 4, 5, 4]


def test_matrix(three):
    assert three.matrix().toarray().tolist() == [[0, 1, 1, 1, 0], [0] * 5, [1, 0, 0, 0, 0]]
    assert three.matrix(three.ratings)[0, 3] == 5


def test_save_and_load(three, tmp_path):
    for original in (three, three.unordered()):
        folder = tmp_path / str(original.ordered)
        original.save(folder)
        loaded = Histories.load(folder)
        assert loaded.n_items == 5
        assert loaded.ordered == original.ordered
        np.testing.assert_array_equal(loaded.item_nums, original.item_nums)
        np.testing.assert_array_equal(loaded.indptr, original.indptr)


def test_of_lists_keeps_the_last_of_repeats():
    assert Histories.of_lists([[4, 2, 4], []], 5).item_nums.tolist() == [2, 4]
    assert Histories.of_lists([[4, 2, 4]], 5, ordered=False).item_nums.tolist() == [2, 4]


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8), st.integers(1, 4))
def test_blocks_cover_every_user_once(rows, size):
    histories = Histories.of_lists(rows, 10)
    seen = [block.item_nums[block.row(u)].tolist() for _, block in histories.blocks(size) for u in range(block.n_users)]
    assert seen == [histories.item_nums[histories.row(u)].tolist() for u in range(histories.n_users)]


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8))
def test_where_is_a_filter(rows):
    histories = Histories.of_lists(rows, 10)
    kept = histories.where(histories.item_nums % 2 == 0)
    assert [kept.item_nums[kept.row(u)].tolist() for u in range(kept.n_users)] == [
        [i for i in histories.item_nums[histories.row(u)].tolist() if i % 2 == 0] for u in range(histories.n_users)
    ]
