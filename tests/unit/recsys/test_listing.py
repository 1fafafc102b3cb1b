"""A night's lists may be written whole or in ranges of users, here or by another process: they are the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import columns
from recsys.bundle import BundleInfo, SplitFacts, load_bundle, write_bundle
from recsys.config import ExportConfig
from recsys.data.ids import IdMap
from recsys.data.split import align_titles
from recsys.families import load_scorer
from recsys.histories import Histories
from recsys.listing import Listing
from recsys.models.linear import Ease

N_USERS, N_ITEMS = 37, 20


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    rng = np.random.default_rng(0)
    rows = [rng.choice(N_ITEMS - 1, rng.integers(0, 8), replace=False).tolist() for _ in range(N_USERS)]
    histories = Histories.of_lists(rows, N_ITEMS)
    items, users = IdMap.of([f"m{n:02d}" for n in range(N_ITEMS)]), IdMap.of([f"u{n:02d}" for n in range(N_USERS)])
    titles = align_titles(columns.TITLES.empty_table(), items)
    scorer = Ease.fit(histories, l2=1.0)
    info = BundleInfo(
        family="ease",
        run_date=date(2026, 11, 24),
        seed=0,
        ordered=True,
        positive_from=4.0,
        split=SplitFacts(strategy="random", test_fraction=0.2, validation_fraction=0.2, seed=0),
    )
    write_bundle(
        tmp_path / "bundle", info, items=items, titles=titles, users=users, histories=histories,
        measured=scorer, serving=scorer,
    )  # fmt: skip
    return Listing(
        bundle=load_bundle(tmp_path / "bundle", load_scorer=load_scorer, verified=False),
        users=users,
        histories=histories,
        titles=titles,
        listable=np.arange(N_ITEMS) != 3,
        space=np.eye(N_ITEMS, dtype=np.float32),
        export=ExportConfig(n=5, block_size=4),
        model_version="7",
        run_date=date(2026, 11, 24),
    )


def rows_of(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(part) for part in sorted(folder.glob("part-*.parquet")))


def test_ranges_of_users_written_by_another_process_make_the_whole(listing: Listing, tmp_path: Path) -> None:
    done: list[int] = []
    counts = listing.write(tmp_path / "whole", progress=done.append)
    assert counts.users == done[-1] == N_USERS
    listing.save(tmp_path / "saved")
    again = Listing.load(tmp_path / "saved")
    shown = np.zeros(N_ITEMS, np.bool_)
    parts = [
        again.write(tmp_path / str(place), users=slice(first, end), shown=shown)
        for place, (first, end) in enumerate([(0, 12), (12, 36), (36, 37)])
    ]
    together = pa.concat_tables(rows_of(tmp_path / str(place)) for place in range(3))
    assert together.equals(rows_of(tmp_path / "whole"))
    assert "m03" not in together[columns.ITEM_ID].to_pylist()
    assert sum(part.rows for part in parts) == counts.rows == together.num_rows
    assert int(shown.sum()) == counts.titles_shown


def test_new_titles_are_offered_by_who_knows_their_text(listing: Listing) -> None:
    assert listing._new is None
    bundle = replace(listing.bundle, info=listing.bundle.info.model_copy(update={"family": "blend"}))
    new = replace(listing, bundle=bundle)._new
    assert new is not None
    assert new[N_ITEMS - 1], "nobody has watched it"
