"""A model's curves as one small SVG, written by hand: no plotting library, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP = 420, 200, 56, 34
_INK, _FAINT, _LINE = "#222", "#bbb", "#1565c0"


def curves_svg(name: str, epochs: Sequence[Mapping[str, float]]) -> str:
    """One panel per figure, epochs on the horizontal axis. Figures that are not finite leave a gap."""
    metrics = list(dict.fromkeys(metric for figures in epochs for metric in figures))
    panels = [
        _panel(metric, [figures.get(metric, math.nan) for figures in epochs], place * (HEIGHT + 10))
        for place, metric in enumerate(metrics)
    ]
    height = max(1, len(metrics)) * (HEIGHT + 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><title>{escape(name)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _panel(metric: str, values: Sequence[float], offset: int) -> str:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = (high - low) or 1.0
    right, bottom = WIDTH - 12, HEIGHT - 24

    def point(place: int, value: float) -> str:
        across = LEFT + (right - LEFT) * place / max(1, len(values) - 1)
        return f"{across:.1f},{offset + bottom - (bottom - TOP) * (value - low) / span:.1f}"

    lines, run = [], []
    for place, value in enumerate([*values, math.nan]):
        if math.isfinite(value):
            run.append(point(place, value))
        elif run:
            run = run if len(run) > 1 else run * 2  # a lone point is drawn as a dot
            lines.append(
                f'<polyline points="{" ".join(run)}" fill="none" stroke="{_LINE}" stroke-width="2" '
                'stroke-linecap="round"/>'
            )
            run = []
    frame = f"M{LEFT},{offset + TOP}V{offset + bottom}H{right}"
    return (
        f'<text x="{LEFT}" y="{offset + 20}" fill="{_INK}" font-weight="bold">{escape(metric)}</text>'
        f'<path d="{frame}" fill="none" stroke="{_FAINT}"/>'
        f'<text x="{LEFT - 6}" y="{offset + TOP + 4}" text-anchor="end" fill="{_INK}">{high:.4g}</text>'
        f'<text x="{LEFT - 6}" y="{offset + bottom}" text-anchor="end" fill="{_INK}">{low:.4g}</text>'
        f'<text x="{right}" y="{offset + bottom + 15}" text-anchor="end" fill="{_INK}">epoch {len(values)}</text>'
        + "".join(lines)
    )
