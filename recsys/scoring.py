"""What every model offers to evaluation and export: scores for users given by their histories."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np

from recsys.histories import Bools, Floats, Histories, Ints


@runtime_checkable
class Scorer(Protocol):
    """Scores every title for users given by their histories.

    Inductive: a user is the history that is passed, whether the model was fitted on it or not. The scorer decides
    what of a history it reads (order, positives only, …). It does not mask seen titles: the caller does.
    """

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        ...

    def scores(self, histories: Histories) -> Floats:
        """Scores [histories.n_users, n_items], float32, finite; higher is better. Deterministic. Accepts empty rows."""
        ...

    def save(self, folder: Path) -> None:
        """Write as safetensors and JSON (never pickle)."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote: it scores exactly the same."""
        ...


def over_all_titles(scores: Floats, item_nums: Ints, popularity: Floats, known: Bools) -> Floats:
    """Scores of all titles from those that a model covers.

    Titles that it does not cover rank below every one that it does: by popularity between the user's lowest score
    less one and less two standard deviations (of the user's scores, at least .001: z-scores stay sane).
    Users of whom the model knows nothing get the popularity itself.

    Args:
        scores: [n_users, n_covered].
        item_nums: [n_covered] the titles covered.
        popularity: [n_items] in [0, 1].
        known: [n_users] whether the user's history holds anything that the model reads.

    Returns:
        [n_users, n_items] float32.
    """
    whole = np.empty((len(scores), len(popularity)), np.float32)
    if len(item_nums) == len(popularity):
        whole[:, item_nums] = scores
    else:
        lowest, spread = _below(scores)
        for user, step in enumerate(spread):  # row by row: a row stays in the cache
            row = np.multiply(popularity, step, out=whole[user])
            row += lowest[user] - 2 * step
            row[item_nums] = scores[user]
    whole[~known] = popularity
    return whole


def _below(scores: Floats) -> tuple[Floats, Floats]:
    """Every user's lowest score and the step by which others rank below it, [n_users] each."""
    if not scores.shape[1]:
        return np.zeros(len(scores), np.float32), np.zeros(len(scores), np.float32)
    lowest = scores.min(axis=1)
    return lowest, np.maximum(scores.std(axis=1), np.maximum(np.float32(1e-3), np.float32(1e-5) * np.abs(lowest)))
