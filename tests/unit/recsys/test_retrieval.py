import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.histories import Histories
from recsys.retrieval import CELLS, LEAST_USERS, retrieve, users_per_block
from recsys.topk import NO_ITEM


def all_of(blocks) -> tuple[np.ndarray, np.ndarray]:
    parts = list(blocks)
    assert [first for first, _, _ in parts] == list(np.cumsum([0, *(len(items) for _, items, _ in parts)])[:-1])
    return np.concatenate([items for _, items, _ in parts]), np.concatenate([values for _, _, values in parts])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([9, 700, 5000]), st.integers(1, 3))
def test_equals_all_scores_sorted(seed, k, n_items, threads):
    """Vectors of small whole numbers: products are exact, and ties are many."""
    rng = np.random.default_rng(seed)
    users, titles = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (11, n_items))
    seen = Histories.of_lists([rng.integers(0, n_items, 6).tolist() for _ in users], n_items)
    listable = rng.random(n_items) < 0.7
    items, values = all_of(retrieve(users, titles, k, seen=seen, listable=listable, block_size=4, threads=threads))
    scores = users @ titles.T
    scores[seen.user_nums, seen.item_nums] = -np.inf
    scores[:, ~listable] = -np.inf
    for row, line, found in zip(scores, items, values, strict=True):
        best = [i for i in np.lexsort((np.arange(n_items), -row)) if row[i] > -np.inf][:k]
        assert line.tolist() == best + [NO_ITEM] * (k - len(best))
        assert found[: len(best)].tolist() == row[best].tolist()


def test_without_filters_every_title_is_ranked():
    items, values = all_of(retrieve(np.ones((2, 1), np.float32), np.array([[1], [3], [2]], np.float32), 3))
    assert items.tolist() == [[1, 2, 0]] * 2
    assert values.tolist() == [[3, 2, 1]] * 2


def test_bytes_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    users, titles = (rng.standard_normal((n, 32)).astype(np.float32) for n in (300, 6000))
    one = all_of(retrieve(users, titles, 20, threads=1))
    three = all_of(retrieve(users, titles, 20, threads=3))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize(("n_items", "expected"), [(0, 500), (CELLS // 100, 100), (10 * CELLS, LEAST_USERS)])
def test_the_wider_the_rows_the_fewer_users_at_a_time(n_items, expected):
    assert users_per_block(n_items, 500) == expected
