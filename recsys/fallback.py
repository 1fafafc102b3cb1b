"""Lists for users whom no model knows well enough: the less of them is known, the more popularity counts."""

from __future__ import annotations

import numpy as np

from recsys.cooccurrence import counts
from recsys.histories import Floats, Histories

RECENT_SHARE = 0.2
"""Share of the newest interactions that makes "now"."""
PRIOR = 20.0
"""Positive interactions that popularity counts for, beside what the model says of a user."""


def popularity_now(histories: Histories) -> Floats:
    """How popular every title is now, [n_items]: positives among the newest interactions, then positives at all."""
    weights = np.where(histories.positive, 0.01, 0.0)
    if histories.timestamps is not None and len(histories.timestamps):
        since = np.quantile(histories.timestamps, 1 - RECENT_SHARE)
        weights = weights + (histories.positive & (histories.timestamps >= since))
    weighed = np.bincount(histories.item_nums, weights=weights, minlength=histories.n_items)
    return weighed.astype(np.float32)


class Fallback:
    """Scores titles for users of whom little or nothing is known."""

    def __init__(self, popularity: Floats, likes: Floats) -> None:
        """Take what is known of titles.

        Args:
            popularity: [n_items] how popular each is now.
            likes: [n_items] positive interactions at all.
        """
        order = np.lexsort((np.arange(len(popularity)), popularity))
        self.popular = np.empty(len(popularity), np.float32)
        """[n_items] scores for users of whom nothing is known, in (0, 1): the most popular now first."""
        self.popular[order] = np.arange(1, len(popularity) + 1, dtype=np.float32) / (len(popularity) + 1)
        self._prior = _zscores(np.log1p(likes)[None, :])

    @classmethod
    def of(cls, histories: Histories) -> Fallback:
        """From the histories of everybody."""
        return cls(popularity_now(histories), counts(histories.positives()))

    def leaning(self, scores: Floats, histories: Histories) -> Floats:
        """A model's scores leaning on popularity: z-scores of both, n to :data:`PRIOR`, for n positive interactions.

        With a rating or five, no model alone finds what popularity does (docs/benchmarks.md, new users).

        Args:
            scores: [n_users, n_items] of the model.
            histories: of the same users.
        """
        liked = histories.positives().lengths[:, None]
        share = (liked / (liked + PRIOR)).astype(np.float32)
        return np.asarray(share * _zscores(scores) + (1 - share) * self._prior, np.float32)


def _zscores(scores: Floats) -> Floats:
    spread = scores.std(axis=1, keepdims=True)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9), np.float32)
