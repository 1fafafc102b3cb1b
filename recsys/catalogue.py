"""What may be shown tonight, and what a title is called: the catalogue's side of the lists."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns
from recsys.histories import Bools


def eligible(titles: pa.Table, run_date: date, *, blocked: Collection[str] = (), region: str | None = None) -> Bools:
    """Which titles may be listed on ``run_date``, [n_items].

    A title is available when its window covers the whole day (UTC), so that it can be watched whenever the list is
    read; a title without a window always is. Titles without regions are available in every region.
    """
    start = datetime.combine(run_date, time(), UTC)
    opened = pc.less_equal(titles[columns.AVAILABLE_FROM], pa.scalar(start, pa.timestamp("us", tz="UTC")))
    closes = pc.greater_equal(
        titles[columns.AVAILABLE_UNTIL], pa.scalar(start + timedelta(days=1), pa.timestamp("us", tz="UTC"))
    )
    shown = pc.and_(pc.fill_null(opened, True), pc.fill_null(closes, True))
    shown = pc.and_(
        shown, pc.invert(pc.is_in(titles[columns.ITEM_ID], value_set=pa.array(sorted(blocked), pa.string())))
    )
    mask = np.asarray(
        shown.to_numpy(zero_copy_only=False) if isinstance(shown, pa.Array) else shown.to_numpy(), np.bool_
    )
    if region is not None:
        mask &= np.array([not where or region in where for where in titles[columns.REGIONS].to_pylist()], np.bool_)
    return mask


def display_names(titles: pa.Table) -> list[str]:
    """A name to show for every title: "Title (year)", else the title, else its item_id."""
    rows = zip(*(titles[name].to_pylist() for name in (columns.ITEM_ID, columns.TITLE, columns.YEAR)), strict=True)
    return [(f"{title} ({year})" if year else title) if title else item_id for item_id, title, year in rows]
