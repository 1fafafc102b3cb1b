"""A ratings file as histories, read in one go: for what needs no more than numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recsys.histories import Histories

POSITIVE_FROM = 4.0


def read_ratings(path: Path) -> Histories:
    """All ratings of a file in MovieLens' layout, by user and time."""
    kinds = {"userId": np.int64, "movieId": np.int64, "rating": np.float32, "timestamp": np.int64}
    frame = pd.read_csv(path, dtype=kinds, usecols=list(kinds))
    users, items = (np.unique(frame[name], return_inverse=True)[1].astype(np.int32) for name in ("userId", "movieId"))
    times, ratings = frame["timestamp"].to_numpy() * 1_000_000, frame["rating"].to_numpy()
    order = np.lexsort((items, times, users))
    counts = np.bincount(users)
    return Histories(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_nums=items[order],
        ratings=ratings[order],
        positive=ratings[order] >= POSITIVE_FROM,
        timestamps=times[order],
        n_items=int(items.max()) + 1,
    )


def cut(histories: Histories, share: float = 0.2) -> tuple[Histories, Histories]:
    """Each user's first ratings, and what they liked of the last ``share`` of them."""
    later = histories.ages < np.floor(share * histories.lengths)[histories.user_nums]
    return histories.where(~later), histories.where(later & histories.positive)
