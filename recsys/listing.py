"""Everything that users' lists are made from, in one piece: so that any process can write any users' part of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys import columns
from recsys.artefacts import read_table, write_table
from recsys.bundle import Bundle, load_bundle
from recsys.config import ExportConfig
from recsys.data.ids import IdMap
from recsys.fallback import Fallback
from recsys.families import load_scorer
from recsys.histories import Bools, Floats, Histories
from recsys.reasons import Reasons
from recsys.recommend import ListCounts, Lists, recommend, unwatched, write_recommendations

Progress = Callable[[int], None]
"""Hears how many users are done."""


@dataclass(frozen=True)
class Listing:
    """The lists of a night, not yet written."""

    bundle: Bundle
    """The model that serves."""
    users: IdMap
    histories: Histories
    """Of the users, over the bundle's titles."""
    titles: pa.Table
    """Metadata of the bundle's titles, tonight's."""
    listable: Bools
    """[n_items] titles that may be shown."""
    space: Floats
    """[n_items, d] where similarity is measured."""
    export: ExportConfig
    model_version: str
    run_date: date

    def write(
        self,
        folder: Path,
        *,
        users: slice | None = None,
        shown: Bools | None = None,
        progress: Progress = lambda done: None,
    ) -> ListCounts:
        """Write users' lists as ``part-*.parquet``.

        Args:
            folder: made if need be.
            users: which ones, neighbours (None: all).
            shown: [n_items] is marked where a title is in a list.
            progress: hears how many of them are done.

        Raises:
            PublicationError: the model gave a score that is not finite.
        """
        return write_recommendations(
            folder,
            self._lists(users),
            self._reasons,
            self.users,
            self.bundle.items,
            model_version=self.model_version,
            run_date=self.run_date,
            shown=shown,
            progress=progress,
        )

    def _lists(self, users: slice | None) -> Iterator[Lists]:
        first = 0 if users is None else users.start
        blocks = recommend(
            self.bundle.serving,
            self.histories if users is None else self.histories.select(users),
            self._fallback,
            n=self.export.n,
            listable=self.listable,
            min_history=self.export.min_history,
            new=self._new,
            new_share=self.export.new_titles,
            block_size=self.export.block_size,
        )
        return (replace(block, first_user=first + block.first_user) for block in blocks)

    @cached_property
    def _fallback(self) -> Fallback:
        return Fallback.of(self.histories)

    @cached_property
    def _new(self) -> Bools | None:
        return unwatched(self.histories) if self.bundle.reads_text else None

    @cached_property
    def _reasons(self) -> Reasons:
        return Reasons(self.titles, self.space)

    def save(self, folder: Path) -> None:
        """Write it down for another process. The bundle stays where it is."""
        folder.mkdir(parents=True)
        self.users.save(folder / "users.parquet", columns.USER_ID)
        self.histories.save(folder / "histories")
        write_table(folder / "titles.parquet", self.titles)
        np.save(folder / "listable.npy", self.listable, allow_pickle=False)
        np.save(folder / "space.npy", self.space, allow_pickle=False)
        rest = {
            "bundle": str(self.bundle.folder.resolve()),
            "export": self.export.model_dump(mode="json"),
            "model_version": self.model_version,
            "run_date": self.run_date.isoformat(),
        }
        (folder / "listing.json").write_text(json.dumps(rest), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Listing:
        """Read what :meth:`save` wrote, histories and space memory-mapped. The bundle is not verified once more."""
        rest = json.loads((folder / "listing.json").read_text(encoding="utf-8"))
        return cls(
            bundle=load_bundle(Path(rest["bundle"]), load_scorer=load_scorer, verified=False),
            users=IdMap.load(folder / "users.parquet"),
            histories=Histories.load(folder / "histories"),
            titles=read_table(folder / "titles.parquet"),
            listable=np.load(folder / "listable.npy", allow_pickle=False),
            space=np.load(folder / "space.npy", mmap_mode="r", allow_pickle=False),
            export=ExportConfig.model_validate(rest["export"]),
            model_version=rest["model_version"],
            run_date=date.fromisoformat(rest["run_date"]),
        )
