"""Where a model's recall comes from: targets in groups, by what was known of their titles when models were fitted.

By popularity (thirds of all interactions) and by newness. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import counts
from recsys.evaluation import Evaluation
from recsys.histories import Bools, Histories
from recsys.metrics import recall_by_user, target_places
from recsys.title_groups import popularity_groups

POPULARITY = ("head", "middle", "tail")
"""Titles by popularity, in thirds of all interactions: a few titles make up the head, most are tail."""
THIRDS = (1 / 3, 1 / 3, 1 / 3)
NEW_SHARE = 0.1
"""A title first seen in this last share of the time that models were fitted on is new."""


@dataclass(frozen=True)
class GroupRecall:
    """Recall of the targets in one group of titles. None where it cannot be told."""

    recall: float | None
    """Mean over the users who have a target in the group."""
    users: int | None
    targets: int | None

    @classmethod
    def of(cls, found: Bools, wanted: Histories, mine: Bools | None) -> GroupRecall:
        """The recall of some targets, [n_targets] each; ``mine`` is None where the group is not known."""
        if mine is None:
            return cls(None, None, None)
        if not mine.any():
            return cls(None, 0, 0)
        recall = recall_by_user(found[mine], wanted.user_nums[mine], wanted.n_users)
        return cls(float(np.nanmean(recall)), int((~np.isnan(recall)).sum()), int(mine.sum()))


@dataclass(frozen=True)
class RingGroups:
    """Every title's groups."""

    thirds: NDArray[np.int8]
    """[n_items] a place in :data:`POPULARITY`; titles without interactions are tail."""
    cold: Bools
    """[n_items] without interactions."""
    new: Bools | None
    """[n_items] first seen lately; None where there is no order of time."""

    @classmethod
    def of(cls, fitted_on: Histories) -> RingGroups:
        """Groups by the histories that models are fitted on (train and validation)."""
        popularity = counts(fitted_on)
        return cls(popularity_groups(popularity, THIRDS), popularity == 0, new_titles(fitted_on))

    def recalls(self, evaluation: Evaluation, targets: Histories, *, k: int = 20) -> dict[str, dict[str, GroupRecall]]:
        """Recall of the targets in each group, by grouping: ``popularity`` and ``newness``.

        Args:
            evaluation: of any model on these targets.
            targets: as they were given to :func:`recsys.evaluation.evaluate`, of all users.
            k: cut-off.

        Returns:
            By grouping and group: head, middle, tail; new, older, cold. New and older cannot be told without an order.
        """
        wanted = targets.select(evaluation.users)
        found = target_places(evaluation.top, wanted.user_nums, wanted.item_nums) < k
        return {
            grouping: {name: GroupRecall.of(found, wanted, mine) for name, mine in groups.items()}
            for grouping, groups in self._members(wanted).items()
        }

    def _members(self, wanted: Histories) -> Mapping[str, Mapping[str, Bools | None]]:
        """Which targets are in which group, [n_targets] each."""
        titles = wanted.item_nums
        cold = self.cold[titles]
        new = None if self.new is None else self.new[titles]
        return {
            "popularity": {name: self.thirds[titles] == place for place, name in enumerate(POPULARITY)},
            "newness": {"new": new, "older": None if new is None else ~new & ~cold, "cold": cold},
        }


def new_titles(histories: Histories) -> Bools | None:
    """Titles first seen in the last :data:`NEW_SHARE` of the histories' time, [n_items]; None without an order."""
    if histories.timestamps is None or not len(histories.item_nums):
        return None
    never = np.iinfo(np.int64).max
    first = np.full(histories.n_items, never)
    np.minimum.at(first, histories.item_nums, histories.timestamps)
    begin, end = int(histories.timestamps.min()), int(histories.timestamps.max())
    return np.asarray((first < never) & (first > end - NEW_SHARE * (end - begin)))
