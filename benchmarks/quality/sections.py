"""The sections of the benchmark: what each measures, and on which data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.quality.ablation import ablation
from benchmarks.quality.bench import Bench, Figures
from benchmarks.quality.cold import cold
from benchmarks.quality.datasets import RING
from benchmarks.quality.new_users import new_users
from benchmarks.quality.refit import refit
from benchmarks.quality.replay import replay
from benchmarks.quality.ring import ring


@dataclass(frozen=True)
class Section:
    """One part of the benchmark."""

    figures: Callable[[Bench, str], Figures]
    """(bench, dataset) to what is kept."""
    datasets: tuple[str, ...]


SECTIONS: Mapping[str, Section] = {
    "ring": Section(ring, RING),
    "ablation": Section(ablation, ("sample", "ml-latest-small", "synthetic")),
    "cold": Section(cold, ("sample", "ml-latest-small-plots")),
    "new-users": Section(new_users, ("sample", "ml-latest-small")),
    "replay": Section(replay, ("sample", "ml-latest-small-plots")),
    "refit": Section(refit, ("sample", "ml-latest-small")),
}
