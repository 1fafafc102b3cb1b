import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recsys.histories import Histories
from recsys.topk import NO_ITEM, mask_seen, top_k


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
