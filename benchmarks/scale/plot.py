"""docs/plots/growth.svg: seconds of every stage over the number of ratings, both as logarithms."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.quality.plots import FAINT, INK, STYLE, save
from benchmarks.scale.data import SIZES
from benchmarks.scale.growth import LIMIT, WHOLE, Growth

_COLOURS = ("#bc4c00", "#0969da", "#1a7f37", "#8250df", "#cf222e", "#bf8700", "#1b7c83")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_LEAST = 1.0
"""Stages that stay under so many seconds are left out: they are noise."""


def write_growth(found: list[Growth], path: Path) -> bool:
    """Draw the stages worth seeing; whether there was anything to draw."""
    shown = [growth for growth in found if max(growth.seconds.values()) >= _LEAST]
    if not shown:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        save(_figure(shown), path)
    return True


def _figure(shown: list[Growth]) -> Figure:
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for place, growth in enumerate(sorted(shown, key=lambda each: -max(each.seconds.values()))):
        sizes = sorted(growth.seconds, key=lambda size: SIZES[size].ratings)
        ratings, seconds = [SIZES[size].ratings for size in sizes], [growth.seconds[size] for size in sizes]
        colour = INK if growth.stage == WHOLE else _COLOURS[place % len(_COLOURS)]
        label = f"{growth.stage} ({growth.exponent:.2f}{'*' if growth.by_difference else ''})"
        axes.plot(ratings, seconds, marker=_MARKS[place % len(_MARKS)], markersize=4, color=colour, label=label)
    whole = next((growth for growth in shown if growth.stage == WHOLE), shown[0])
    _limit(axes, whole)
    axes.set(xscale="log", yscale="log", xlabel="ratings", ylabel="seconds")
    axes.set_xticks([SIZES[size].ratings for size in ("1m", "5m", "25m")], ["1M", "5M", "25M"])
    axes.minorticks_off()
    axes.grid(color=FAINT, alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), title="stage (exponent)")
    return figure


def _limit(axes: mpl.axes.Axes, whole: Growth) -> None:
    """The steepest line that is allowed, from where the whole night begins."""
    small, large = SIZES["1m"].ratings, SIZES["25m"].ratings
    start = whole.seconds.get("1m", min(whole.seconds.values())) * 1.6
    ends = [start, start * (large / small) ** LIMIT]
    axes.plot([small, large], ends, "--", color=FAINT, linewidth=1.2, label=f"ratings^{LIMIT}")
