"""Ranking metrics, per user and of the whole. Full ranking: lists come from all titles, never from a sample.

Relevance is binary. Every user measured has at least one relevant title: for others the metrics are undefined, and
:mod:`recsys.evaluation` leaves them out. Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.histories import Bools, Floats, Ints, Longs
from recsys.topk import NO_ITEM

Doubles = NDArray[np.float64]

_TARGETS = 1 << 16  # targets compared with their lists at a time
PER_USER = ("ndcg", "recall", "capped_recall", "hit_rate", "mrr")


def target_places(top: Ints, target_rows: Ints, target_items: Ints) -> Ints:
    """The place of every target in its user's list, [n_targets]: from 0; k where it is not listed.

    Args:
        top: [n_users, k] item numbers, NO_ITEM where a list is shorter.
        target_rows: [n_targets] row of ``top`` that each target belongs to.
        target_items: [n_targets] item numbers.
    """
    k = top.shape[1]
    places = np.full(len(target_items), k, np.int32)
    for start in range(0, len(target_items), _TARGETS):  # one comparison of all would be n_targets × k
        some = slice(start, start + _TARGETS)
        listed = top[target_rows[some]] == target_items[some, None]
        places[some] = np.where(listed.any(axis=1), listed.argmax(axis=1), k)
    return places


def relevance(top: Ints, target_rows: Ints, target_items: Ints) -> Bools:
    """Which entries of the lists are relevant, [n_users, k]. Arguments as of :func:`target_places`."""
    places = target_places(top, target_rows, target_items)
    found = places < top.shape[1]
    hits = np.zeros(top.shape, np.bool_)
    hits[target_rows[found], places[found]] = True
    return hits


def user_metrics(hits: Bools, n_targets: Longs, ks: tuple[int, ...]) -> dict[str, Floats]:
    """Metrics of every user at every cut-off, named like ``ndcg_at_10``, each [n_users].

    - ndcg: Σ 1/log2(rank + 1) over hits, divided by the same of a perfect list of min(k, n_targets).
    - recall: hits / n_targets. capped_recall: hits / min(k, n_targets), as Liang et al. (WWW 2018) have it.
    - hit_rate: 1 if there is a hit. mrr: 1 / rank of the first hit, 0 if there is none up to k.

    Args:
        hits: [n_users, at least max(ks)] from :func:`relevance`.
        n_targets: [n_users], all at least 1.
        ks: cut-offs.
    """
    longest = max(ks)
    discounts = 1.0 / np.log2(np.arange(2, longest + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    rank = np.arange(1, longest + 1)
    metrics: dict[str, Floats] = {}
    for k in ks:
        found = hits[:, :k]
        n_found = found.sum(axis=1)
        reachable = np.minimum(n_targets, k)
        values = {
            "ndcg": _weighted(found, discounts[:k]) / ideal[reachable],
            "recall": n_found / n_targets,
            "capped_recall": n_found / reachable,
            "hit_rate": n_found > 0,
            "mrr": np.where(n_found > 0, 1.0 / rank[found.argmax(axis=1)], 0.0),
        }
        metrics |= {f"{name}_at_{k}": value.astype(np.float32) for name, value in values.items()}
    return metrics


def _weighted(hits: Bools, weights: Doubles) -> Doubles:
    """hits @ weights, [n_users]. Some users at a time: the product copies the hits as numbers of eight bytes."""
    blocks = [hits[start : start + _TARGETS] @ weights for start in range(0, len(hits), _TARGETS)]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def list_metrics(top: Ints, popularity: Floats, n_users: int, cold: Bools, k: int) -> dict[str, float]:
    """Metrics of all users' lists together, at ``k``.

    - coverage: share of the catalogue that is in at least one list.
    - novelty: mean self-information of a listed title in bits, -log2 of the (smoothed) share of users who know it.
    - mean_popularity: mean share of users who know a listed title.
    - gini: inequality of exposure over the whole catalogue, 0 (all equal) to 1 (one title has it all).
    - cold_share: share of the places given to cold titles.

    Args:
        top: [n_lists, at least k].
        popularity: [n_items] interactions per title in the histories that the lists were made from.
        n_users: users of those histories.
        cold: [n_items] which titles are cold.
        k: cut-off.
    """
    exposure = _exposure(top[:, :k], len(popularity))
    share = (popularity + 1.0) / (n_users + 1.0)
    places = max(int(exposure.sum()), 1)
    return {
        f"coverage_at_{k}": float((exposure > 0).mean()),
        f"novelty_at_{k}": float(-(np.log2(share) * exposure).sum() / places),
        f"mean_popularity_at_{k}": float((popularity * exposure).sum() / places / max(n_users, 1)),
        f"gini_at_{k}": gini(exposure),
        f"cold_share_at_{k}": float(exposure[cold].sum() / places),
    }


def _exposure(lists: Ints, n_items: int) -> Longs:
    """How often each title is listed, [n_items]. Some lists at a time: counting copies what it counts."""
    exposure = np.zeros(n_items, np.int64)
    for start in range(0, len(lists), _TARGETS):
        shown = lists[start : start + _TARGETS]
        exposure += np.bincount(shown[shown != NO_ITEM], minlength=n_items)
    return exposure


def gini(exposure: NDArray[np.integer]) -> float:
    """The Gini coefficient of exposures, titles never shown included; 0 where nothing is shown."""
    total = exposure.sum()
    if total == 0:
        return 0.0
    n = len(exposure)
    ascending = np.sort(exposure).astype(np.float64)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ascending).sum() / (n * total))


def cold_recall(top: Ints, target_rows: Ints, target_items: Ints, cold: Bools, k: int) -> float | None:
    """Mean recall of cold targets over the users who have any; None where no user has."""
    mine = cold[target_items]
    if not mine.any():
        return None
    recall = recall_by_user(target_places(top, target_rows[mine], target_items[mine]) < k, target_rows[mine], len(top))
    return float(np.nanmean(recall))


def recall_by_user(found: Bools, target_rows: Ints, n_users: int) -> Doubles:
    """Share of every user's targets that were found, [n_users]; NaN where a user has none.

    Args:
        found: [n_targets].
        target_rows: [n_targets] the user of each target.
        n_users: number of users.
    """
    targets = np.bincount(target_rows, minlength=n_users)
    hits = np.bincount(target_rows, weights=found, minlength=n_users)
    return np.where(targets > 0, hits / np.maximum(targets, 1), np.nan)


def largest_share_of_one_list(lists: Ints) -> float:
    """Share of users who have the most frequent list, [n_users, k] (1.0: all the same); 0 without users."""
    if not len(lists):
        return 0.0
    return float(np.unique(lists, axis=0, return_counts=True)[1].max() / len(lists))
