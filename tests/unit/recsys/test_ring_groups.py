from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.evaluation import evaluate
from recsys.histories import Histories
from recsys.ring_groups import THIRDS, RingGroups, new_titles
from recsys.title_groups import popularity_groups


class Fixed:
    """One and the same scores for everybody."""

    def __init__(self, values):
        self.values = np.array(values, np.float32)
        self.n_items = len(values)

    def scores(self, histories):
        return np.tile(self.values, (histories.n_users, 1))


def test_thirds_of_interactions():
    """12 interactions: the first title has 5 (more than a third), the next two 4, the others 3; one has none."""
    assert popularity_groups(np.array([2, 5, 0, 2, 1, 1, 1], np.float32), THIRDS).tolist() == [1, 0, 2, 1, 2, 2, 2]
    assert popularity_groups(np.array([1, 1, 1], np.float32), THIRDS).tolist() == [0, 1, 2]
    assert popularity_groups(np.zeros(3, np.float32), THIRDS).tolist() == [2, 2, 2]


def test_new_titles_came_in_the_last_tenth_of_the_time():
    histories = Histories.of_lists([[0, 1], [2, 0, 3]], 5)
    timed = replace(histories, timestamps=np.array([0, 91, 89, 95, 100]))
    assert new_titles(timed).tolist() == [False, True, False, True, False]
    assert new_titles(histories.unordered()) is None


def test_recall_by_group_by_hand():
    """The list of everybody is 5 4 3 2 1 0. Users 0 and 1 want titles of all kinds; user 2 wants nothing."""
    fitted = Histories.of_lists([[0, 1], [0, 1, 2], [0, 3]], 6)  # popularity 3 2 1 1 0 0
    targets = Histories.of_lists([[5, 3, 2], [3, 0], []], 6)  # 0 is seen by user 1, so it cannot be found
    evaluation = evaluate(Fixed([0, 1, 2, 3, 4, 5]), fitted, targets, ks=(2,))
    groups = RingGroups(
        thirds=np.array([0, 1, 1, 2, 2, 2], np.int8),
        cold=np.array([0, 0, 0, 0, 1, 1], bool),
        new=np.array([0, 0, 1, 0, 0, 0], bool),
    )
    found = groups.recalls(evaluation, targets, k=2)
    popularity, newness = found["popularity"], found["newness"]
    assert (popularity["head"].recall, popularity["head"].users, popularity["head"].targets) == (0.0, 1, 1)
    assert (popularity["middle"].recall, popularity["middle"].users) == (0.0, 1)
    # user 0 is shown 5 4: finds 5, not 3; user 1 is shown 5 4 too and does not find 3
    assert (popularity["tail"].recall, popularity["tail"].users, popularity["tail"].targets) == (0.25, 2, 3)
    assert (newness["cold"].recall, newness["cold"].users) == (1.0, 1)
    assert (newness["new"].recall, newness["new"].targets) == (0.0, 1)
    assert newness["older"].targets == 3
    total = sum(group.targets for group in newness.values())
    assert total == sum(group.targets for group in popularity.values()) == len(targets.item_nums)


def test_what_cannot_be_told_is_none():
    fitted = Histories.of_lists([[0], [1]], 3, ordered=False)
    targets = Histories.of_lists([[1], [0]], 3, ordered=False)
    evaluation = evaluate(Fixed([2, 1, 0]), fitted, targets)
    newness = RingGroups.of(fitted).recalls(evaluation, targets)["newness"]
    assert newness["new"].recall is newness["older"].recall is newness["new"].users is None
    assert (newness["cold"].recall, newness["cold"].users, newness["cold"].targets) == (None, 0, 0)


@pytest.mark.parametrize("k", [1, 3])
def test_recall_of_all_groups_together_is_the_recall(k):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(30)[:12].tolist() for _ in range(20)]
    known = Histories.of_lists([row[:8] for row in rows], 30)
    targets = Histories.of_lists([row[8:] for row in rows], 30)
    evaluation = evaluate(Fixed(rng.random(30)), known, targets, ks=(k,))
    everything = RingGroups(np.zeros(30, np.int8), np.zeros(30, bool), None).recalls(evaluation, targets, k=k)
    assert everything["popularity"]["head"].recall == pytest.approx(evaluation.metrics[f"recall_at_{k}"], abs=1e-6)
