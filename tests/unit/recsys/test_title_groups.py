from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.histories import Histories
from recsys.title_groups import HEAD, MIDDLE, TAIL, TitleGroups, popularity_groups


def test_groups_by_hand():
    # Of 20 interactions, title 0 has the first half; 3 and 1 the next three tenths; the rest, and the unwatched, trail.
    popularity = np.array([10, 2, 1, 4, 1, 1, 1, 0], np.float32)
    assert popularity_groups(popularity).tolist() == [HEAD, MIDDLE, TAIL, MIDDLE, TAIL, TAIL, TAIL, TAIL]


def test_of_equals_the_lower_number_is_more_popular():
    assert popularity_groups(np.ones(10, np.float32)).tolist() == [HEAD] * 5 + [MIDDLE] * 3 + [TAIL] * 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_no_title_is_in_a_less_watched_group_than_one_watched_less(counts):
    popularity = np.array(counts, np.float32)
    groups = popularity_groups(popularity)
    assert np.all(np.diff(groups[np.argsort(-popularity, kind="stable")]) >= 0)
    assert np.all(groups[popularity == 0] == TAIL)


def test_recall_by_hand():
    known = Histories.of_lists([[0], [0], [0, 1], [2]], 4, ordered=False)  # 0: 3 of 5, 1 and 2: one each, 3: none
    targets = Histories.of_lists([[1, 3], [], [2, 3], [0]], 4, ordered=False)
    groups = TitleGroups.of(known, targets)
    assert groups.n_users == 3  # the second has no target
    assert popularity_groups(np.array([3, 1, 1, 0], np.float32)).tolist() == [HEAD, MIDDLE, TAIL, TAIL]
    lists = np.array([[1, 2], [3, 0], [0, 3]], np.int32)
    assert groups.recall(lists, (MIDDLE, TAIL), k=2).tolist() == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)
    assert groups.recall(lists, (MIDDLE,), k=2).tolist() == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
    assert groups.recall(lists, (HEAD,), k=1).tolist() == pytest.approx([np.nan, np.nan, 1.0], nan_ok=True)
