"""Paired bootstrap over users: how sure a mean difference between two models is."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys.histories import Floats

_DRAWS = 4_000_000


class Interval(BaseModel):
    """A mean difference and its bootstrap confidence interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As sentences have it: +0.0123 [+0.0101, +0.0145]."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    @property
    def negated(self) -> Interval:
        """Of b - a, where this one is of a - b."""
        return Interval(mean=-self.mean, low=-self.high, high=-self.low)


def paired_bootstrap(
    a: Floats, b: Floats, *, resamples: int = 2_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of a - b over users, with a percentile bootstrap interval (users drawn with replacement, pairs kept).

    Args:
        a: [n_users] a metric of one model.
        b: [n_users] the same metric of another, for the same users.
        resamples: number of draws.
        confidence: such as .95.
        seed: of the draws.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(difference)
    if not difference.any():
        return Interval(mean=0.0, low=0.0, high=0.0)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    chunk = max(1, _DRAWS // n)  # bounds the memory: 16 MB of numbers at a time
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        means[start : start + rows] = difference[rng.integers(0, n, (rows, n), dtype=np.int32)].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))
