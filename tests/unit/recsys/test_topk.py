import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recsys.histories import Histories
from recsys.topk import GROUPS, GROUPS_PER_PLACE, NO_ITEM, WIDE, mask_seen, top_k


def test_best_first_ties_by_item_number():
    items, values = top_k(np.array([[0.1, 0.9, 0.9, 0.5]], np.float32), 3)
    assert items.tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(values, [[0.9, 0.9, 0.5]])


def test_short_pool_is_filled_with_no_item():
    items, values = top_k(np.array([[-np.inf, 2.0, -np.inf]], np.float32), 2)
    assert items.tolist() == [[1, NO_ITEM]]
    assert values[0, 1] == -np.inf


def test_k_beyond_the_catalogue():
    assert top_k(np.array([[1.0, 2.0]], np.float32), 5)[0].tolist() == [[1, 0, NO_ITEM, NO_ITEM, NO_ITEM]]


def test_no_users_and_no_titles():
    assert top_k(np.zeros((0, 4), np.float32), 2)[0].shape == (0, 2)
    assert top_k(np.zeros((2, 0), np.float32), 2)[0].tolist() == [[NO_ITEM] * 2] * 2


@settings(max_examples=200, deadline=None)
@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0]),
    ),
    st.integers(1, 14),
)
def test_equals_a_plain_sort(scores, k):
    items, _ = top_k(scores, k)
    for row, line in zip(scores, items, strict=True):
        expected = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))[:k]
        assert line.tolist() == expected + [NO_ITEM] * (k - len(expected))


def test_mask_seen_hits_each_user_own_history():
    scores = np.zeros((2, 3), np.float32)
    mask_seen(scores, Histories.of_lists([[2], [0, 1]], 3))
    assert np.isinf(scores).tolist() == [[False, False, True], [True, True, False]]


def plain(scores: np.ndarray, k: int) -> list[list[int]]:
    lines = []
    for row in scores:
        best = [int(i) for i in np.lexsort((np.arange(len(row)), -row)) if row[i] > -np.inf][:k]
        lines.append(best + [NO_ITEM] * (k - len(best)))
    return lines


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 7, 100, 300]), st.sampled_from([2, 30, 10**6]), st.floats(0, 1))
def test_wide_rows_equal_a_plain_sort(seed, k, levels, hidden):
    """Wide enough for groups; few levels of scores are ties by the thousand, many are none."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (3, WIDE * GROUPS_PER_PLACE * 300 + 17)).astype(np.float32) / levels
    scores[rng.random(scores.shape) < hidden] = -np.inf
    scores[2, :-5] = -np.inf  # but five, all of them beyond the last whole group
    items, values = top_k(scores, k)
    assert items.tolist() == plain(scores, k)
    filled = items != NO_ITEM
    np.testing.assert_array_equal(values[filled], np.take_along_axis(scores, np.maximum(items, 0), 1)[filled])
    assert (values[~filled] == -np.inf).all()


def test_a_wide_row_whose_best_all_lie_in_one_group():
    scores = np.zeros((1, WIDE * GROUPS), np.float32)
    scores[0, ::GROUPS] = 1 + np.arange(WIDE)
    scores[0, 5] = np.inf
    assert top_k(scores, 6)[0].tolist() == plain(scores, 6)


def test_scores_in_another_memory_order():
    scores = np.random.default_rng(0).random((9, 2 * WIDE * GROUPS), np.float32)
    assert top_k(np.asfortranarray(scores), 20)[0].tolist() == plain(scores, 20)
