"""Titles held out whole, as if they were new: how a model that reads text is measured.

A cold title's interactions are taken from everybody's history; then, for every user who liked some of them, the cold
titles alone are ranked from what is left of the history.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.histories import Bools, Floats, Histories, Ints, Longs

_STOP_SHARE = 0.3
_MOST_USERS = 5_000


@dataclass(frozen=True)
class ColdDraw:
    """A draw of cold titles, and what is left."""

    warm: Histories
    """The histories without any interaction of a cold title."""
    stop: Ints
    """Cold titles on which training is stopped, ascending."""
    report: Ints
    """Cold titles on which it is measured, ascending: no choice is made on them."""
    liked: Histories
    """The positive interactions of all cold titles."""


def draw_cold(histories: Histories, *, fraction: float, seed: int) -> ColdDraw:
    """Hold out a share of the titles that somebody liked: three in ten of them to stop on, the others to report on."""
    positives = histories.positives()
    rated = np.unique(positives.item_nums)
    cold = np.random.default_rng([seed, 0xC01D]).permutation(rated)[: round(fraction * len(rated))]
    n_stop = round(_STOP_SHARE * len(cold))
    is_cold = np.isin(np.arange(histories.n_items), cold)
    return ColdDraw(
        warm=histories.where(~is_cold[histories.item_nums]),
        stop=np.sort(cold[:n_stop]),
        report=np.sort(cold[n_stop:]),
        liked=positives.where(is_cold[positives.item_nums]),
    )


def users_of(liked: Histories, items: Ints) -> Longs:
    """The users who liked some of these titles, ascending; where they are very many, some of them, evenly spaced."""
    among = np.isin(np.arange(liked.n_items), items)
    users = np.unique(liked.user_nums[among[liked.item_nums]]).astype(np.int64)
    return users[:: max(1, -(-len(users) // _MOST_USERS))]


def cold_figures(scores: Floats, liked: Histories, items: Ints) -> dict[str, float]:
    """How well cold titles are ranked: means over users who liked at least one.

    Args:
        scores: [n_users, n_cold], of the titles ``items``.
        liked: the likes of these users, one row each; other titles than ``items`` are ignored.
        items: the cold titles, ascending.

    Returns:
        recall_at_20 (share of the liked titles among the first 20), ndcg_at_10, ndcg_at_100, and users (how many).
    """
    relevant = liked.matrix()[:, items].toarray() > 0  # [n_users, n_cold]
    count = relevant.sum(axis=1)
    relevant, scores, count = relevant[count > 0], scores[count > 0], count[count > 0]
    if not len(count):
        return {"recall_at_20": float("nan"), "ndcg_at_10": float("nan"), "ndcg_at_100": float("nan"), "users": 0.0}
    hits = np.take_along_axis(relevant, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return {
        "recall_at_20": float(np.mean(hits[:, :20].sum(axis=1) / count)),
        "ndcg_at_10": _ndcg(hits, count, 10),
        "ndcg_at_100": _ndcg(hits, count, 100),
        "users": float(len(count)),
    }


def _ndcg(hits: Bools, count: Longs, k: int) -> float:
    discount = 1 / np.log2(np.arange(2, min(k, hits.shape[1]) + 2))
    ideal = np.cumsum(discount)[np.minimum(count, len(discount)) - 1]
    return float(np.mean(hits[:, : len(discount)] @ discount / ideal))
