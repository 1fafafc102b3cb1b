"""The plots of docs/benchmarks.md, as SVG that reads on light and on dark pages. Figures in, files out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.quality.datasets import DATASETS

INK, PAPER, FAINT = "#24292f", "#ffffff", "#8c959f"
DARK = {INK: "#e6edf3", PAPER: "#0d1117", FAINT: "#6e7681"}
OURS_COLOUR, RIVAL_COLOUR = "#bc4c00", "#0969da"
COLOURS = {
    "ncf": OURS_COLOUR,
    "served": "#24292f",
    "blend": "#bf8700",
    "user_autoencoder": "#cf222e",
    "ease": RIVAL_COLOUR,
    "item_knn": "#1a7f37",
    "popularity": "#8250df",
}
"""Dark enough for white, light enough for black."""
OURS = ("user_autoencoder", "content_cnn", "blend", "ncf", "served")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "marquee",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Interval = Mapping[str, float]


def write_plots(found: Mapping[str, Mapping[str, Any]], folder: Path) -> list[str]:
    """Draw what there are figures for; gives the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        for name, draw in _PLOTS.items():
            figures = found.get(name)
            if figures:
                save(draw(figures), folder / f"{name}.svg")
                drawn.append(f"{name}.svg")
    return drawn


def _ring(found: Mapping[str, Any]) -> Figure:
    """NDCG@10 of every model, best first, with intervals."""
    names = [name for name in DATASETS if name in found and DATASETS[name].neural]
    figure, panels = _panels(len(names), 3.4, 4.2)
    for axes, name in zip(panels, names, strict=True):
        models = found[name]["compared"]["models"]
        order = sorted(models, key=lambda model: models[model]["intervals"]["ndcg_at_10"]["mean"])
        intervals = [models[model]["intervals"]["ndcg_at_10"] for model in order]
        _dots(axes, order, intervals, [OURS_COLOUR if model in OURS else RIVAL_COLOUR for model in order])
        axes.set_title(DATASETS[name].words, fontsize=9)
        axes.set_xlabel("NDCG@10, 95 % interval")
    return figure


def _ablation(found: Mapping[str, Any]) -> Figure:
    """What each variant has more or less than the whole."""
    names = [name for name in DATASETS if name in found]
    figure, panels = _panels(len(names), 3.4, 3.2)
    for axes, name in zip(panels, names, strict=True):
        variants = {key: each for key, each in found[name]["variants"].items() if key != "whole"}
        order = sorted(variants, key=lambda key: -variants[key]["ndcg_at_10_difference"]["mean"])
        intervals = [variants[key]["ndcg_at_10_difference"] for key in order]
        labels = [variants[key]["words"].partition(" (")[0] for key in order]
        axes.axvline(0, color=FAINT, linewidth=1)
        _dots(axes, labels, intervals, [RIVAL_COLOUR] * len(order))
        axes.set_title(DATASETS[name].words, fontsize=9)
        axes.set_xlabel("NDCG@10 less that of the whole")
    return figure


def _cold(found: Mapping[str, Any]) -> Figure:
    """Recall@20 on cold titles."""
    names = [name for name in DATASETS if name in found]
    figure, panels = _panels(len(names), 3.6, 2.6)
    for axes, name in zip(panels, names, strict=True):
        models, words = found[name]["models"], found[name]["words"]
        order = sorted(models, key=lambda model: models[model]["recall_at_20"]["interval"]["mean"])
        intervals = [models[model]["recall_at_20"]["interval"] for model in order]
        colours = [OURS_COLOUR if model in OURS else RIVAL_COLOUR for model in order]
        _dots(axes, [words[model] for model in order], intervals, colours)
        axes.set_title(DATASETS[name].words.partition(",")[0], fontsize=9)
        axes.set_xlabel("recall@20 on titles held out whole")
    return figure


def _new_users(found: Mapping[str, Any]) -> Figure:
    """NDCG@10 by the number of ratings known."""
    names = [name for name in DATASETS if name in found]
    figure, panels = _panels(len(names), 4.2, 3.4)
    for axes, name in zip(panels, names, strict=True):
        for model, curve in found[name]["curves"].items():
            colour = COLOURS.get(model, FAINT)
            ratings = sorted(int(n) for n in curve)
            means = [curve[str(n)]["mean"] for n in ratings]
            line = "-" if model in OURS else "--"
            axes.plot(range(len(ratings)), means, line, marker="o", markersize=4, color=colour, label=model)
            if model == "ncf":
                low, high = ([curve[str(n)][end] for n in ratings] for end in ("low", "high"))
                axes.fill_between(range(len(ratings)), low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(range(len(ratings)), [str(n) for n in ratings])
        axes.set_xlabel("ratings of a new user that are known")
        axes.set_ylabel("NDCG@10")
        axes.set_ylim(bottom=0)
        axes.set_title(DATASETS[name].words.partition(",")[0], fontsize=9)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


_PLOTS = {"ring": _ring, "ablation": _ablation, "cold": _cold, "new-users": _new_users}


def _panels(n: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(columns * (width + 1.6), rows * height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in axes[n:]:
        empty.set_axis_off()
    return figure, list(axes[:n])


def _dots(axes: Axes, labels: Sequence[str], intervals: Sequence[Interval], colours: Sequence[str]) -> None:
    for place, (interval, colour) in enumerate(zip(intervals, colours, strict=True)):
        axes.plot([interval["low"], interval["high"]], [place, place], color=colour, linewidth=1.6)
        axes.plot(interval["mean"], place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(axis="x", color=FAINT, alpha=0.25)


def save(figure: Figure, path: Path) -> None:
    """Write a drawing that reads on light and on dark pages."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(adapting(path.read_text(encoding="utf-8")), encoding="utf-8")


def adapting(svg: str) -> str:
    """The same drawing with a style that swaps ink and paper where the page is dark."""
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}' for light, dark in DARK.items() for what in _PAINTED
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    svg = re.sub(r"[ \t]+\n", "\n", svg)
    return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + "\n " + style, svg, count=1)


_PAINTED = ("fill", "stroke")
