"""What a source is: something that locates raw tables and says where they come from.

A source reads no rows. It names files, their layout and whose columns are whose; ``recsys.data.ingest`` turns every
source's tables into a dataset along one path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

Note = Callable[[str], None]
"""Receives a line that a person should see."""

Layout = Literal["delimited", "parquet"]


def silent(_text: str) -> None:
    """A :data:`Note` that nobody hears."""


@dataclass(frozen=True)
class RawFile:
    """A file as the source has it: on disk, or a member of a zip."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return Path(self.member).name if self.member else self.path.name

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class RawTable:
    """One table of a source: files of one layout, and which of their columns are ours."""

    role: str
    """ratings, titles, links or tags."""
    files: tuple[RawFile, ...]
    layout: Layout
    delimiter: str | None = None
    """None: read off the header line."""
    quoted: bool | None = None
    """Whether the format quotes fields (None: commas and semicolons do, tabs and "::" don't)."""
    header: tuple[str, ...] | None = None
    """Column names of files without a header line."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Our column = theirs, as the configuration says."""
    required: tuple[str, ...] = ()
    """Our columns that must be there."""
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Our list column = their columns of 0 and 1, whose names are the words."""
    separators: Mapping[str, str] = field(default_factory=dict)
    """Our list column = what separates its words (unset: "|", or a comma where no "|" occurs)."""
    articles: bool = False
    """Whether articles of any language stand behind a comma ("Postino, Il"), as MovieLens writes them."""


@dataclass(frozen=True)
class Provenance:
    """Where data come from and under what terms."""

    name: str
    licence: str = "unknown: the terms of whoever gave you the data hold"
    citation: str = ""
    url: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """File name = "algorithm:hex", as the publisher gives it."""


@dataclass(frozen=True)
class Tables:
    """The raw tables of a source."""

    ratings: RawTable
    titles: RawTable | None = None
    links: RawTable | None = None
    """item_id → imdb_id, tmdb_id."""
    tags: RawTable | None = None
    """item_id, tag: one row per application of a tag."""
    credits: Callable[[pa.Table], pa.Table] | None = None
    """Titles (item_id, title, year) → item_id, cast, directors, genres (lists), imdb_id: adds to what they say."""


@dataclass(frozen=True)
class Located:
    """A source that has been found: enough to tell whether it was ingested before."""

    files: tuple[Path, ...]
    """Every file that the tables come from (their SHA-256s are the fingerprint)."""
    provenance: Provenance
    tables: Callable[[Path], Tables]
    """The raw tables; may write helpers into the scratch folder that it is given."""
    scale: tuple[float, float] | None = None
    """The lowest and highest rating, where the source is known to have such a scale."""
    version: int = 1
    """Of what makes the data, for sources whose data are made."""


@dataclass(frozen=True)
class Place:
    """Where a source may keep what it brings, and whom it tells."""

    home: Path
    note: Note = silent

    @property
    def downloads(self) -> Path:
        """Files brought from outside, kept for the next run."""
        return self.home / "downloads"
