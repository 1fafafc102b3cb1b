"""How each stage of a night grows from 1M to 25M ratings, from the profiles that ``benchmarks.scale.night`` left.

The exponent is the slope of seconds over ratings, both as logarithms, from the smallest night to the largest. A stage
that takes under two seconds at 1M is mostly set-up there (starting a process, opening a database): for it the exponent
is taken from differences, log₅((t₂₅ − t₅) / (t₅ − t₁)), from which whatever does not grow drops out; where these are
noise, it is that from 5M to 25M.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.scale.data import SIZES
from benchmarks.scale.kept import NIGHTS, nights
from benchmarks.scale.rows import Row

LIMIT = 1.15
SET_UP = 2.0
"""Seconds at the smallest size below which a stage is mostly set-up."""
NOISE = 0.5
"""Differences in seconds below this say nothing."""
SHORT = 5.0
"""A stage that takes less than this at the largest size is not held against the limit."""
WHOLE = "the whole night"
Seconds = dict[str, dict[str, float]]
"""Stage → size → seconds."""


@dataclass(frozen=True)
class Growth:
    """A stage's seconds by size, and how they grow."""

    stage: str
    seconds: Mapping[str, float]
    segments: tuple[float, ...]
    """Exponents from each size to the next."""
    exponent: float
    """What is held against the limit."""
    by_difference: bool

    @property
    def met(self) -> bool | None:
        """Whether it is within the limit; None for a stage so short that nobody would notice."""
        return None if max(self.seconds.values()) < SHORT else self.exponent <= LIMIT


def measure(size: str = "25m") -> list[Row]:
    """One row per stage.

    Raises:
        RuntimeError: a night is missing.
    """
    del size  # it is about all of them
    found = nights()
    missing = [each for each in NIGHTS if each not in found]
    if missing:
        raise RuntimeError(f"no night of {', '.join(missing)} yet: run `python -m benchmarks.scale night --size …`")
    return [_row(growth) for growth in growths(found)]


def _row(growth: Growth) -> Row:
    detail = {"seconds": dict(growth.seconds), "segments": list(growth.segments), "by_difference": growth.by_difference}
    bound = None if growth.met is None else f"<= {LIMIT}"
    return Row("growth", f"exponent of {growth.stage}", growth.exponent, "", bound, growth.met, detail)


def growths(found: Mapping[str, Mapping[str, Any]]) -> list[Growth]:
    """Every stage that all nights have and none reused, in the order of a night; the whole night last."""
    seconds = seconds_by_stage(found)
    return [growth(stage, own) for stage, own in seconds.items() if len(own) == len(found) > 1]


def seconds_by_stage(found: Mapping[str, Mapping[str, Any]]) -> Seconds:
    """Seconds of every stage that was carried out, and of the whole."""
    seconds: Seconds = {}
    for size, night in found.items():
        for stage in night["stages"]:
            if not stage["reused"] and not stage["error"]:
                seconds.setdefault(stage["stage"], {})[size] = max(stage["seconds"], 1e-3)
    seconds[WHOLE] = {size: night["seconds"] for size, night in found.items()}
    return seconds


def growth(stage: str, seconds: Mapping[str, float]) -> Growth:
    """The exponents of one stage."""
    sizes = sorted(seconds, key=lambda size: SIZES[size].ratings)
    segments = tuple(slope(seconds, *pair) for pair in pairwise(sizes))
    if seconds[sizes[0]] >= SET_UP or len(sizes) != 3:
        return Growth(stage, seconds, segments, slope(seconds, sizes[0], sizes[-1]), False)
    return Growth(stage, seconds, segments, _beyond_set_up(seconds, sizes, segments), True)


def slope(seconds: Mapping[str, float], small: str, large: str) -> float:
    """The exponent between two sizes."""
    return math.log(seconds[large] / seconds[small]) / math.log(SIZES[large].ratings / SIZES[small].ratings)


def _beyond_set_up(seconds: Mapping[str, float], sizes: Sequence[str], segments: Sequence[float]) -> float:
    """The exponent p of t = a + b·nᵖ over three sizes of equal ratio; where a difference is noise, the last segment."""
    small, middle, large = (seconds[size] for size in sizes)
    if middle - small < NOISE or large - middle < NOISE:
        return segments[-1]
    ratio = SIZES[sizes[1]].ratings / SIZES[sizes[0]].ratings
    return math.log((large - middle) / (middle - small)) / math.log(ratio)
