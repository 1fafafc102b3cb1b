"""What a model of the most popular titles covers, and a word where it leaves some out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.cooccurrence import counts
from recsys.histories import Histories, Ints
from recsys.scoring import Scorer
from recsys.tracker import Tracker


def coverage(scorer: Scorer, histories: Histories) -> dict[str, Any] | None:
    """What a model that covers the most popular titles only leaves out; None of one that covers all.

    Returns:
        ``titles`` covered, how many are ``worthwhile`` (liked at least twice), and ``interactions``: the share of the
        liked ones that fall on what is covered.
    """
    item_nums: Ints | None = getattr(scorer, "item_nums", None)
    if item_nums is None:
        return None
    liked = counts(histories.positives())
    share = float(liked[item_nums].sum(dtype=np.float64) / max(liked.sum(dtype=np.float64), 1.0))
    return {"titles": len(item_nums), "worthwhile": int((liked > 1).sum()), "interactions": round(share, 4)}


def say_coverage(name: str, covered: Mapping[str, Any] | None, tracker: Tracker) -> None:
    """A note where a model leaves out titles that it could learn something of."""
    if covered is not None and covered["titles"] < covered["worthwhile"]:
        tracker.note(
            f"{name} models the {covered['titles']:,} most popular of {covered['worthwhile']:,} titles, "
            f"{covered['interactions']:.1%} of what was liked; the others rank below them by popularity"
        )
