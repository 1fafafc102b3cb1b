"""What the models have to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.datasets import DATASETS

Found = Mapping[str, Mapping[str, Any]]
OURS = "ncf"
METRIC = "ndcg_at_10"
RATIOS = (("sample", 1.10), ("ml-latest-small", 1.10), ("sample-random", 1.03), ("synthetic", 1.10))
"""Datasets and the least ratio to the best rival."""
NEEDS_INTERVAL = ("sample", "sample-random")
"""Where the paired interval has to lie above 0, too."""
COLD_RATIO = 1.05


@dataclass(frozen=True)
class Bound:
    """One line."""

    data: str
    bound: str
    figure: str
    met: bool


def bounds(found: Found) -> Iterator[Bound]:
    """Every bound that there are figures for."""
    for name, least in RATIOS:
        if name in found.get("ring", {}):
            yield _ratio(name, least, found["ring"][name])
    for name, figures in found.get("cold", {}).items():
        yield _cold(name, figures)
    against = {name: found["ring"][name]["ncf_against_blend"] for name, _ in RATIOS if name in found.get("ring", {})}
    if against:
        yield _against_blend(against)
    for name, figures in found.get("replay", {}).items():
        yield _replay(name, figures)
    for name, figures in found.get("refit", {}).items():
        yield _refit(name, figures)


def signed(interval: Mapping[str, float]) -> str:
    """+.0123 [+.0101, +.0145]"""
    return f"{interval['mean']:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}]"


def _ratio(name: str, least: float, figures: Mapping[str, Any]) -> Bound:
    difference = figures["compared"]["models"][OURS]["against_best_rival"][METRIC]
    interval = name in NEEDS_INTERVAL
    return Bound(
        DATASETS[name].words,
        f"≥ {least:.2f} × the best rival" + (", interval above 0" if interval else ""),
        f"{difference['ratio']:.3f} × {difference['rival']}, {signed(difference)}",
        difference["ratio"] >= least and (not interval or difference["low"] > 0),
    )


def _cold(name: str, figures: Mapping[str, Any]) -> Bound:
    tower = figures["models"]["content_cnn"]
    ratios = {words: tower[metric]["ratio"] for metric, words in (("recall_at_20", "recall"), (METRIC, "NDCG@10"))}
    return Bound(
        f"cold titles, {DATASETS[name].words.partition(',')[0]}",
        f"content tower ≥ {COLD_RATIO:.2f} × the best ridge",
        ", ".join(f"{words} {ratio:.3f} ×" for words, ratio in ratios.items())
        + f" (recall {signed(tower['recall_at_20']['against_ridge'])})",
        min(ratios.values()) >= COLD_RATIO,
    )


def _against_blend(against: Mapping[str, Mapping[str, float]]) -> Bound:
    above = sum(interval["low"] > 0 for interval in against.values())
    below = sum(interval["high"] < 0 for interval in against.values())
    return Bound(
        "NCF against the best blend of its own towers",
        "interval above 0 on two of the four, never below",
        f"above on {above} of {len(against)}, below on {below}: "
        + "; ".join(f"{name} {signed(interval)}" for name, interval in against.items()),
        above >= 2 and not below,
    )


def _replay(name: str, figures: Mapping[str, Any]) -> Bound:
    models = figures["models"]
    return Bound(
        f"titles that arrive, {DATASETS[name].words.partition(',')[0]}",
        "new titles in the lists hit more often than the popular among the new, interval above 0",
        f"{models[OURS]['hits_per_place']:.4f} hits per place, {models['early']['hits_per_place']:.4f} by popularity "
        f"after a tenth of the window ({signed(models['early']['ours_less_this_hits'])}), "
        f"{models['lot']['hits_per_place']:.4f} by lot",
        models["early"]["ours_less_this_hits"]["low"] > 0,
    )


def _refit(name: str, figures: Mapping[str, Any]) -> Bound:
    gain = figures["families"][OURS][METRIC]["gain"]
    return Bound(
        f"refit, {DATASETS[name].words.partition(',')[0]}",
        "what serves is at least as good as what was measured, on a later window",
        f"NDCG@10 {signed(gain)}",
        gain["mean"] >= 0,
    )
