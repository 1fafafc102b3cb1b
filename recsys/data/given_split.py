"""A split that somebody else made: the test ratings are given, the validation window is cut from the train ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.ids import IdMap
from recsys.data.split import (
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    align_titles,
    first_share,
    histories_of,
    id_maps,
    random_draw,
    read_histories,
    time_order,
)
from recsys.errors import SourceError
from recsys.histories import Histories


def given_split(
    train: Path, test: Path, titles: pa.Table, *, positive_from: float, validation_fraction: float = 0.2, seed: int = 0
) -> tuple[Split, int]:
    """Number users and titles of both files; train's last ratings (without timestamps: random ones) are validation.

    Args:
        train: Parquet in the schema ``columns.RATINGS``, no duplicates.
        test: the same; a pair that train holds too is left out, since a title that was seen is never listed.
        titles: in the schema ``columns.TITLES``; may be empty.
        positive_from: least positive rating, in the ratings' own scale.
        validation_fraction: share of a user's train ratings in validation.
        seed: of the random draw.

    Returns:
        the split, and how many test pairs were left out.

    Raises:
        SourceError: train or test holds nothing positive.
    """
    users, items = _joint_maps(train, test, titles)
    known = read_histories(train, users, items, positive_from=positive_from)
    wanted = read_histories(test, users, items, positive_from=positive_from)
    for path, histories in ((train, known), (test, wanted)):
        if not bool(histories.positive.any()):
            raise SourceError(
                f"no rating is positive (at least {positive_from:g})",
                where=str(path),
                remedy="set [ratings] positive_from to a value that the ratings reach",
            )
    ordered = known.ordered
    if ordered:
        place = np.arange(len(known.item_nums)) - np.repeat(known.indptr[:-1], known.lengths)
        early = place < np.repeat(first_share(known.lengths, 1 - validation_fraction), known.lengths)
    else:
        early = random_draw(known, users, items, seed) >= validation_fraction
    windows = np.where(early, TRAIN, VALIDATION).astype(np.int8)
    rows = pd.concat([_rows(known, windows), _rows(wanted, np.full(len(wanted.item_nums), TEST, np.int8))])
    once = rows.drop_duplicates(["user", "item"], keep="first")
    once = once.iloc[time_order(once, users, items) if ordered else np.lexsort((once["item"], once["user"]))]
    split = Split(
        users=users,
        items=items,
        interactions=histories_of(once, users, items, positive_from, ordered),
        part=once["part"].to_numpy(),
        titles=align_titles(titles, items),
        strategy="per-user-temporal" if ordered else "random",
    )
    return split, len(rows) - len(once)


def _joint_maps(train: Path, test: Path, titles: pa.Table) -> tuple[IdMap, IdMap]:
    both = [id_maps(path, titles) for path in (train, test)]
    users, items = (IdMap.of(pa.chunked_array([maps[side].ids for maps in both], pa.string())) for side in (0, 1))
    return users, items


def _rows(histories: Histories, part: NDArray[np.int8]) -> pd.DataFrame:
    time = np.zeros(len(part), np.int64) if histories.timestamps is None else histories.timestamps
    return pd.DataFrame(
        {
            "user": histories.user_nums,
            "item": histories.item_nums,
            "rating": histories.ratings,
            "time": time,
            "part": part,
        }
    )
