"""docs/benchmarks-scale.md, put together from the figures: nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.results import FOLDER
from benchmarks.quality.tables import table
from benchmarks.scale import growth, kept, night
from benchmarks.scale.data import SIZES
from benchmarks.scale.growth import Growth, growths
from benchmarks.scale.plot import write_growth
from benchmarks.scale.rows import Row
from recsys.artefacts import write_text

PAGE, PLOT = Path("docs/benchmarks-scale.md"), Path("docs/plots/growth.svg")
_HEAD = """# Benchmarks: size

This page is written by `make bench` (`python -m benchmarks.scale`; `make bench SIZE=25m` measures at 25 million ratings
and runs the whole night; `python -m benchmarks.scale render` writes only this page). The figures are those of
`benchmarks/results/scale-*.json` and `night-*.json`; the rows' details are there too. Data are made up by
`marquee synth`. Both sides of a ratio are measured in one run, on as many threads. What the models find is in
[benchmarks.md](benchmarks.md).
"""
_GROWTH = """Exponent: the slope of seconds over ratings, both as logarithms, from 1M to 25M; the segments are from
one size to the next. *: under two seconds at 1M, so mostly set-up there; the exponent is taken from the differences
between the three sizes, from which whatever does not grow drops out (where these are noise: from 5M to 25M). Stages
of less than five seconds at 25M are not held against the limit. Stages that ran at the same time share the cores.
"""


def write_page(root: Path, folder: Path = FOLDER) -> None:
    """Write the page and the plot; parts without figures are left out."""
    found = {size: kept.load(kept.rows_path(size, folder)) for size in SIZES}
    nights = kept.nights(folder)
    grown = growths(nights) if len(nights) == len(kept.NIGHTS) else []
    drawn = write_growth(grown, root / PLOT)
    parts = [_HEAD]
    for size, own in found.items():
        if own is not None:
            parts += _rows_section(size, own)
    for size, profile in nights.items():
        parts += _night_section(size, profile)
    if grown:
        parts += _growth_section(grown, drawn)
    write_text(root / PAGE, "\n".join(parts))


def _rows_section(size: str, own: Mapping[str, Any]) -> Iterator[str]:
    wanted = SIZES[size]
    yield f"## {size}: {wanted.ratings:,} ratings, {wanted.users:,} users, {wanted.titles:,} titles\n"
    yield rows_table([row for part in own["parts"].values() for row in kept.rows_of(part)])
    yield from (f"**{name} failed**: {part['error']}\n" for name, part in own["parts"].items() if part["error"])
    yield _made([part["made"] for part in own["parts"].values()])


def rows_table(rows: Sequence[Row]) -> str:
    """Every row with its bound."""
    cells = [(f"{row.part}: {row.what}", figure_text(row), row.bound or "", verdict(row.met)) for row in rows]
    return table(("", "figure", "bound", ""), cells)


def figure_text(row: Row) -> str:
    """A figure with its unit, to three digits."""
    size = abs(row.figure)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{row.figure:,.{digits}f} {row.unit}".strip()


def verdict(met: bool | None, *, plain: bool = False) -> str:
    """Whether a bound is met."""
    return "" if met is None else "met" if met else "NOT MET" if plain else "**NOT MET**"


def _night_section(size: str, profile: Mapping[str, Any]) -> Iterator[str]:
    yield f"## A night of {SIZES[size].ratings:,} ratings\n"
    yield rows_table(night.rows(size, profile))
    yield (
        "Memory is the most that all processes of the night held together while the stage ran, processor time is that "
        "of all of them; what the trainer's own process took, where there is one, is beside it.\n"
    )
    head = ("stage", "seconds", "rows", "rows/s", "memory", "processor s", "own seconds", "own memory", "")
    yield table(head, [_stage_cells(stage) for stage in profile["stages"]])
    if profile["failure"]:
        yield f"**The night failed**: {profile['failure']}\n"
    yield _made([profile["made"]])


def _stage_cells(stage: Mapping[str, Any]) -> tuple[str, ...]:
    cost = stage["cost"] or {}
    return (
        stage["stage"],
        f"{stage['seconds']:,.1f}",
        _number(stage["rows"]),
        _number(stage["rows_per_second"]),
        _megabytes(stage["peak_rss_bytes"]),
        _number(stage["cpu_seconds"]),
        _number(cost.get("seconds")),
        _megabytes(cost.get("peak_rss_bytes")),
        "failed" if stage["error"] else "reused" if stage["reused"] else "",
    )


def _growth_section(grown: Sequence[Growth], drawn: bool) -> Iterator[str]:
    yield f"## Growth from 1M to 25M\n\n{_GROWTH}"
    if drawn:
        yield f"![Seconds of every stage](plots/{PLOT.name})\n"
    head = ("stage", *(f"s at {size}" for size in kept.NIGHTS), "1M to 5M", "5M to 25M", "exponent", "bound", "")
    rows = [
        (
            each.stage,
            *(f"{each.seconds[size]:,.1f}" for size in kept.NIGHTS),
            *(f"{segment:.2f}" for segment in each.segments),
            f"{each.exponent:.2f}{'*' if each.by_difference else ''}",
            "" if each.met is None else f"<= {growth.LIMIT}",
            verdict(each.met),
        )
        for each in grown
    ]
    yield table(head, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _megabytes(size: float | None) -> str:
    return "" if not size else f"{size / 1e6:,.0f} MB"


def _made(made: Sequence[Mapping[str, Any]]) -> str:
    """On what, when and by which commands; each once."""
    lines = dict.fromkeys(
        f"- `{each['command']}`; {each['date']}; Marquee {each['code']}; {each['machine']['cpu']}, "
        f"{each['machine']['cores']} cores, {each['machine']['memory_gb']} GB; "
        + ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        for each in made
    )
    return "\n".join(lines) + "\n"
