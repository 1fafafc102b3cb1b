"""The scale of the ratings: configured, known to the source, or read off the data.

Read off, a scale is the *smallest* usual one that fits nearly all ratings: a few 7s among 1 to 5 are faults, not a
scale to 10. Erring that way stops the night with a message; erring the other way would train on nonsense in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from recsys.errors import ConfigError, SourceError

USUAL_MAXIMA = (1.0, 5.0, 10.0, 100.0)

_STRAY_SHARE = 0.05
_ROWS_FOR_A_STRAY = 5


@dataclass(frozen=True)
class RatingFigures:
    """What one pass over a ratings file's numbers says."""

    rows: int
    given: int
    """Rows whose rating is not null (NaN counts as given)."""
    finite: int
    above: Mapping[float, int]
    """Finite ratings above each of the usual maxima."""
    halves: int
    """Finite ratings that lie half-way between whole numbers."""
    fractions: int
    """Finite ratings that are neither whole nor half."""
    newest: int | None
    """The latest timestamp, in microseconds since the epoch."""


@dataclass(frozen=True)
class Scale:
    """The lowest and the highest rating that mean something; both None where feedback is implicit."""

    minimum: float | None
    maximum: float | None
    origin: str
    """implicit, configuration, source or data."""

    @property
    def implicit(self) -> bool:
        """Whether there are no ratings, only interactions."""
        return self.maximum is None

    def positive_from(self, on_five_stars: float) -> float:
        """The least positive rating on this scale, from the one on a scale up to 5."""
        return on_five_stars if self.maximum is None else on_five_stars * self.maximum / 5


def read_figures(ratings: Path) -> RatingFigures:
    """Scan the numbers of a ratings file (Parquet, ``columns.RATINGS``)."""
    above = ", ".join(f"count(*) FILTER (finite AND rating > {limit})" for limit in USUAL_MAXIMA)
    query = f"""
        SELECT count(*), count(rating), count(*) FILTER (finite),
               count(*) FILTER (finite AND rating <> floor(rating) AND rating * 2 = floor(rating * 2)),
               count(*) FILTER (finite AND rating * 2 <> floor(rating * 2)),
               epoch_us(max(timestamp)), {above}
        FROM (SELECT rating, timestamp, coalesce(isfinite(rating), false) AS finite FROM read_parquet(?))"""
    with duckdb.connect() as database:
        row = database.execute(query, [str(ratings)]).fetchone()
    assert row is not None
    rows, given, finite, halves, fractions, newest, *beyond = row
    return RatingFigures(
        rows=rows,
        given=given,
        finite=finite,
        above=dict(zip(USUAL_MAXIMA, beyond, strict=True)),
        halves=halves,
        fractions=fractions,
        newest=newest,
    )


def resolve_scale(
    figures: RatingFigures,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    known: Mapping[str, Any] | None = None,
) -> Scale:
    """The scale: each end from the configuration, else from what the source knows, else from the data.

    Args:
        figures: of the ratings.
        minimum: as configured.
        maximum: as configured.
        known: a dataset's summary, whose ``rating_min`` and ``rating_max`` may be set.

    Raises:
        ConfigError: the lowest rating is not below the highest.
        SourceError: no usual scale fits the ratings.
    """
    if figures.rows and not figures.given:
        return Scale(None, None, "implicit")
    known = known or {}
    high, from_high = _first(maximum, known.get("rating_max"), lambda: _usual_maximum(figures))
    low, from_low = _first(minimum, known.get("rating_min"), lambda: _usual_minimum(figures, high))
    if low >= high:
        raise ConfigError(
            f"the lowest rating ({low:g}) is not below the highest ({high:g})",
            where="[source] rating_min, rating_max",
            remedy="set both to the ends of the scale that the source uses",
        )
    return Scale(_as_stored(low), _as_stored(high), from_high if from_high == from_low else f"{from_low}, {from_high}")


def _first(configured: float | None, known: Any, read: Any) -> tuple[float, str]:
    if configured is not None:
        return configured, "configuration"
    if known is not None:
        return float(known), "source"
    return read(), "data"


def _as_stored(value: float) -> float:
    """Ratings are float32: 4.9 is stored as 4.9000001, which must not count as above 4.9."""
    return float(np.float32(value))


def _strays(figures: RatingFigures) -> int:
    """How many ratings may lie outside a scale before we doubt the scale rather than them."""
    return max(int(_STRAY_SHARE * figures.finite), 1 if figures.finite >= _ROWS_FOR_A_STRAY else 0)


def _usual_maximum(figures: RatingFigures) -> float:
    for limit in USUAL_MAXIMA:
        if figures.above[limit] <= _strays(figures):
            return limit
    raise SourceError(
        f"the ratings fit none of the usual scales (up to 1, 5, 10 or 100): {figures.above[USUAL_MAXIMA[-1]]:,}"
        f" of {figures.finite:,} are above 100",
        where="the ratings",
        remedy="set [source] rating_min and rating_max; leave the column out if it counts plays rather than rates",
    )


def _usual_minimum(figures: RatingFigures, maximum: float) -> float:
    if maximum not in {5.0, 10.0}:
        return 0.0
    if figures.fractions > _strays(figures):
        return 0.0
    return 0.5 if figures.halves > _strays(figures) else 1.0
