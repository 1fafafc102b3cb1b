"""What should have been foretold, by how much its titles were watched before: popular ones, middling ones, the tail.

A mean over users hides who finds what: a model can gain on hits and lose the rest of the catalogue, and one that has
seen what it is tested on betrays itself by finding titles that hardly anyone had watched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import counts
from recsys.histories import Floats, Histories, Ints
from recsys.metrics import recall_by_user, target_places

HEAD, MIDDLE, TAIL = 0, 1, 2
SHARES = (0.5, 0.3, 0.2)
"""Of the interactions known before: the most watched titles that have half of them, the next three tenths, the rest
(titles that nobody has watched among them)."""


@dataclass(frozen=True)
class TitleGroups:
    """The targets of the users who are measured."""

    n_users: int
    rows: Ints
    """[n_targets] which of the users measured (their order in the evaluation)."""
    item_nums: Ints
    """[n_targets]"""
    groups: NDArray[np.int8]
    """[n_targets] HEAD, MIDDLE or TAIL, by the title."""

    @classmethod
    def of(cls, known: Histories, targets: Histories) -> TitleGroups:
        """Group the targets of the users who have any, as :func:`recsys.evaluation.evaluate` measures them.

        Args:
            known: what was known of all users: popularity is counted here.
            targets: same users, what should be foretold.
        """
        users = np.flatnonzero(targets.lengths > 0)
        wanted = targets.select(users)
        return cls(len(users), wanted.user_nums, wanted.item_nums, popularity_groups(counts(known))[wanted.item_nums])

    def recall(self, lists: Ints, groups: tuple[int, ...], k: int = 20) -> Floats:
        """Every user's recall at ``k`` of the targets in these groups, [n_users]; NaN where a user has none.

        Args:
            lists: [n_users, at least k] item numbers, best first.
            groups: of HEAD, MIDDLE, TAIL.
            k: cut-off.
        """
        mine = np.isin(self.groups, groups)
        rows, item_nums = self.rows[mine], self.item_nums[mine]
        return recall_by_user(target_places(lists, rows, item_nums) < k, rows, self.n_users).astype(np.float32)


def popularity_groups(popularity: Floats, shares: Sequence[float] = SHARES) -> NDArray[np.int8]:
    """The group of every title, [n_items], by its interactions [n_items]; of equals the lower number is first.

    Group 0 are the most watched titles that have the first of ``shares`` of all interactions, and so on; titles without
    interactions are in the last.
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]  # a group's last title may reach over its share
    groups = np.empty(len(popularity), np.int8)
    edges = np.cumsum(shares)[:-1] * popularity.sum()
    groups[order] = np.searchsorted(edges, before, side="right")
    groups[popularity == 0] = len(shares) - 1
    return groups
