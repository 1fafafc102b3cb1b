"""Two versions side by side: figures, and the interval of the difference on the users that both were measured on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from recsys.artefacts import read_table, verified_file
from recsys.bundle import USER, BundleInfo
from recsys.config import GateConfig
from recsys.histories import Floats
from recsys.selection import paired_bootstrap
from tasks.registry.connection import Registry
from tasks.registry.versions import VersionInfo, fetch, read_version


class VersionComparison(BaseModel):
    """Version ``b`` against version ``a``: differences are b less a."""

    model_config = ConfigDict(frozen=True)

    a: VersionInfo
    b: VersionInfo
    metrics: dict[str, tuple[float | None, float | None]]
    """Every figure of either: (a's, b's)."""
    metric: str
    """That the interval is of."""
    users: int
    """In common, with a figure of both."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float
    verdict: str
    """In words."""
    notes: tuple[str, ...] = ()
    """What stands in the way of a fair comparison."""


def compare(registry: Registry, a: str, b: str, gate: GateConfig) -> VersionComparison:
    """Compare two versions by number or alias, with a paired bootstrap over the users in common.

    Raises:
        UsageError: there is no such version.
        ArtefactError: a version's files are damaged.
    """
    with registry.doing("comparing two versions"):
        versions = [read_version(registry, name) for name in (a, b)]
        folders = [fetch(registry, version) for version in versions]
    infos = [BundleInfo.model_validate_json(verified_file(ref, "bundle.json").read_bytes()) for ref in folders]
    figures = [
        read_table(verified_file(ref, "per_user.parquet")) if ref.file("per_user.parquet").is_file() else None
        for ref in folders
    ]
    pair = _pair(figures[0], figures[1], gate.metric)
    names = sorted({*infos[0].metrics, *infos[1].metrics})
    common = VersionComparison(
        a=versions[0],
        b=versions[1],
        metrics={name: (infos[0].metrics.get(name), infos[1].metrics.get(name)) for name in names},
        metric=gate.metric,
        users=len(pair[0]),
        confidence=gate.confidence,
        verdict=f"not compared: no user has {gate.metric} of both versions",
        notes=tuple(_doubts(infos[0], infos[1], pair)),
    )
    if not common.users:
        return common
    interval = paired_bootstrap(pair[1], pair[0], resamples=gate.resamples, confidence=gate.confidence, seed=0)
    low, high = interval.low, interval.high
    found = {"difference": interval.mean, "low": low, "high": high}
    return common.model_copy(update={**found, "verdict": _verdict(versions[0].version, versions[1].version, low, high)})


def _pair(a: pa.Table | None, b: pa.Table | None, metric: str) -> tuple[Floats, Floats]:
    """Both versions' figures of the users that have one in both, in the same order."""
    if a is None or b is None or metric not in a.column_names or metric not in b.column_names:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    place = pc.index_in(a[USER].combine_chunks(), value_set=b[USER].combine_chunks())
    known = pc.is_valid(place)
    ours = a[metric].filter(known).to_numpy()
    theirs = b[metric].take(place.filter(known)).to_numpy()
    both = np.isfinite(ours) & np.isfinite(theirs)
    return ours[both], theirs[both]


def _doubts(a: BundleInfo, b: BundleInfo, pair: tuple[Floats, Floats]) -> list[str]:
    doubts = []
    if a.split != b.split:
        doubts.append("they were measured on differently cut test windows: the figures do not compare")
    elif a.digests.get("validated") != b.digests.get("validated"):
        doubts.append(
            "they were measured on the data of different nights: the interval is of the users in common, "
            "but what they had to foresee differs"
        )
    if a.positive_from != b.positive_from:
        doubts.append("they count ratings as positive from different values")
    if len(pair[0]) and len(pair[0]) < 0.5 * max(a.n_users, b.n_users):
        doubts.append(f"fewer than half of the users are in common ({len(pair[0])})")
    return doubts


def _verdict(a: str, b: str, low: float, high: float) -> str:
    if low > 0:
        return f"version {b} is better than version {a}"
    if high < 0:
        return f"version {b} is worse than version {a}"
    return f"versions {a} and {b} cannot be told apart"
