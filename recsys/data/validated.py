"""A validated dataset: the only form in which data reach training. Made by ``tasks/validate.py`` and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.artefacts import ArtefactRef, read_table, verified_file, verify
from recsys.data.scale import Scale
from recsys.errors import ArtefactError

KIND = "validated"
RATINGS_FILE = "ratings.parquet"
TITLES_FILE = "titles.parquet"
QUARANTINE_FILE = "quarantine.parquet"
REPORT_HTML = "report.html"
REPORT_JSON = "report.json"


@dataclass(frozen=True)
class ValidatedDataset:
    """Ratings and titles that fulfil the expectations."""

    ref: ArtefactRef
    scale: Scale
    ordered: bool
    """Whether ratings have timestamps."""
    summary: dict[str, Any]

    @classmethod
    def load(cls, ref: ArtefactRef) -> ValidatedDataset:
        """Open a validated dataset after every byte of it has been verified.

        Raises:
            ArtefactError: the reference is of another kind, or the artefact is missing or damaged.
        """
        if ref.kind != KIND:
            raise ArtefactError(
                f"training takes validated data only, this is a {ref.kind}",
                where=ref.path,
                remedy="run `marquee validate` and use what it makes",
            )
        summary = verify(ref).summary
        scale = Scale(summary["rating_min"], summary["rating_max"], summary["scale_origin"])
        return cls(ref, scale, summary["ordered"], summary)

    @property
    def ratings(self) -> Path:
        """Parquet in the schema ``columns.RATINGS``, sorted by user then time; no title twice for a user."""
        return self.ref.file(RATINGS_FILE)

    @property
    def implicit(self) -> bool:
        """Whether there are no ratings, only interactions."""
        return self.scale.implicit

    def titles(self) -> pa.Table:
        """The titles, in the schema ``columns.TITLES``; sorted by item_id, each id once. Empty where there are none."""
        return read_table(verified_file(self.ref, TITLES_FILE))

    def positive_from(self, on_five_stars: float) -> float:
        """The least positive rating on the ratings' own scale (see ``[ratings] positive_from``)."""
        return self.scale.positive_from(on_five_stars)
