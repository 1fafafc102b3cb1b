"""What `marquee evaluate` prints for people to read, and the check of its options."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from flows.display import table
from flows.narration import duration
from recsys.errors import UsageError

if TYPE_CHECKING:
    from recsys.config import SplitStrategy

Row = dict[str, str]
_MAIN = "ndcg_at_10"
_NEITHER = "–"


def check_options(
    *, train: str | None, test: str | None, titles: str | None, split: str | None
) -> SplitStrategy | None:
    """The split strategy that is asked for, if any.

    Raises:
        UsageError: options that do not go together, or an unknown strategy.
    """
    from recsys.config import SplitStrategy

    if (train is None) != (test is None):
        missing = "--test" if test is None else "--train"
        raise UsageError(f"{missing} is missing", remedy="give both, or neither to measure on the configured source")
    if train is None and titles is not None:
        raise UsageError("--titles goes with --train and --test", remedy="set [source] titles for a configured source")
    if split is None:
        return None
    if train is not None:
        raise UsageError("--split goes with the configured source: --train and --test are a split", remedy="drop one")
    strategies: tuple[SplitStrategy, ...] = get_args(SplitStrategy)
    for strategy in strategies:
        if split == strategy:
            return strategy
    near = difflib.get_close_matches(split, strategies, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"{split!r} is not a split strategy", where="--split", remedy=f"{hint}known are {', '.join(strategies)}"
    )


def ring_view(console: Console, report: Mapping[str, Any]) -> None:
    """The ring: figures with intervals, differences against the best rival, groups, costs."""
    ring, split = report["ring"], report["split"]
    console.print(
        f"Split {split['strategy']}, {ring['users']:,} test users, {split['titles']:,} titles, full ranking; "
        f"intervals at {ring['confidence']:.0%} over users",
        markup=False,
    )
    _show(console, "Figures", figure_rows(ring))
    _show(console, "Against the best rival, paired on users", difference_rows(ring))
    _show(console, "Recall@20 by the targets' titles (popularity in thirds of interactions; newness)", title_rows(ring))
    _show(console, "NDCG@10 by the users' history length", activity_rows(ring))
    _show(console, "What it took", cost_rows(ring))
    for name, why in report["left_out_models"].items():
        console.print(f"Left out: {name}: {why}", markup=False)


def figure_rows(ring: Mapping[str, Any]) -> list[Row]:
    """Every model's main metrics with their intervals, best first."""
    return [
        {"model": name, **{words: _with_interval(model["intervals"][key]) for key, words in ring["metrics"].items()}}
        for name, model in _ranked(ring)
    ]


def difference_rows(ring: Mapping[str, Any]) -> list[Row]:
    """Every model less the best rival, by main metric: ratio, and difference with its interval."""
    heads = {key: f"{words} ({ring['best_rival'][key] or _NEITHER})" for key, words in ring["metrics"].items()}
    return [
        {"model": name, **{head: _difference(model["against_best_rival"][key]) for key, head in heads.items()}}
        for name, model in _ranked(ring)
    ]


def title_rows(ring: Mapping[str, Any]) -> list[Row]:
    """Recall of the targets in each group of titles."""
    return [
        {
            "model": name,
            **{
                group: _figure(figures["recall_at_20"])
                for grouping in ("popularity", "newness")
                for group, figures in model["groups"][grouping].items()
            },
        }
        for name, model in _ranked(ring)
    ]


def activity_rows(ring: Mapping[str, Any]) -> list[Row]:
    """NDCG@10 of the users in each group of activity."""
    return [
        {
            "model": name,
            **{
                f"{group} ({figures['users']:,})": _figure(figures[_MAIN])
                for group, figures in model["groups"]["activity"].items()
            },
        }
        for name, model in _ranked(ring)
    ]


def cost_rows(ring: Mapping[str, Any]) -> list[Row]:
    """Seconds, memory, and how many settings were tried."""
    return [
        {
            "model": name,
            "settings tried": _NEITHER if model["tried"] is None else str(len(model["tried"])),
            **{step: _seconds(model["seconds"][step]) for step in ("tune", "fit", "score")},
            "peak memory, fit": _memory(model["peak_rss_bytes"]["fit"]),
            "peak memory, score": _memory(model["peak_rss_bytes"]["score"]),
        }
        for name, model in _ranked(ring)
    ]


def _ranked(ring: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(ring["models"].items(), key=lambda item: -item[1]["intervals"][_MAIN]["mean"])


def _show(console: Console, title: str, rows: Sequence[Row]) -> None:
    console.print()
    console.print(table(title, rows, right=list(rows[0])[1:]))


def _with_interval(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"


def _difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return _NEITHER
    ratio = "" if difference["ratio"] is None else f"{difference['ratio']:.3f}× "
    return f"{ratio}{difference['mean']:+.4f}\n[{difference['low']:+.4f}, {difference['high']:+.4f}]"


def _figure(value: float | None) -> str:
    return _NEITHER if value is None else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    return _NEITHER if value is None else duration(value) if value >= 60 else f"{value:.1f} s"


def _memory(value: int | None) -> str:
    return _NEITHER if value is None else f"{value / 1e6:,.0f} MB"
