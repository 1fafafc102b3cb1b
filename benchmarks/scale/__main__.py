"""``python -m benchmarks.scale [part …] [--size 1m|5m|25m]``: speed, memory and growth against a peer or a limit.

Parts: ingest, baselines, trainers, export, and whatever else measures here: all of them without a name. night and
growth take whole nights and run only when named (``--size 25m`` runs the night too). ``render`` only writes
docs/benchmarks-scale.md. Exits with 1 where a bound is not met or a part failed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from benchmarks.quality.sources import ROOT
from benchmarks.scale import growth, kept, night
from benchmarks.scale.data import SIZES, service
from benchmarks.scale.page import figure_text, verdict, write_page
from benchmarks.scale.parts import NIGHTS, Measured, all_parts, run_part
from benchmarks.scale.rows import Row
from flows.display import table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, keep the figures, write the page."""
    asked = _parser().parse_args(arguments)
    names = [name for name in (*asked.parts, *asked.only) if name != "render"]
    if not asked.parts and not asked.only:
        names = [*all_parts(), *(NIGHTS if asked.size == "25m" else ())]
    console, began = Console(width=150), time.monotonic()
    out = asked.out or kept.rows_path(asked.size)
    if names:
        service(asked.size)
    found = [_measure(name, asked.size, asked.home, out) for name in names]
    rows = [row for each in found for row in each.rows] + _recorded(names)
    if names:
        console.print(table(f"Scale, {asked.size}", [_cells(row) for row in rows], right=("figure", "bound")))
        console.print(f"{time.monotonic() - began:,.0f} s; figures in {out.parent}", markup=False)
    for failure in (each for each in found if each.error):
        console.print(f"{failure.part} FAILED: {failure.error}", markup=False)
    write_page(ROOT)
    return 1 if any(each.error for each in found) or any(row.met is False for row in rows) else 0


def _measure(name: str, size: str, home: Path | None, out: Path) -> Measured:
    measured = run_part(name, size, home if name == "night" else None)
    if name not in NIGHTS:  # those are kept as nights
        kept.keep_part(size, name, measured.rows, measured.seconds, measured.error, out)
    return measured


def _recorded(names: list[str]) -> list[Row]:
    """What the last nights came to, where none was run now: they take an hour."""
    if not names or set(names) & set(NIGHTS):
        return []
    nights = kept.nights()
    rows = [row for size, figures in nights.items() for row in night.rows(size, figures)]
    return rows + (growth.measure() if len(nights) == len(kept.NIGHTS) else [])


def _cells(row: Row) -> dict[str, str]:
    return {"part": row.part, "what": row.what, "figure": figure_text(row), "bound": row.bound or "",
            "": verdict(row.met, plain=True)}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parts = [*all_parts(), *NIGHTS, "render"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"what to measure: {', '.join(parts)}")
    parser.add_argument("--only", nargs="+", default=[], metavar="part", help="the same")
    parser.add_argument("--size", default="1m", choices=list(SIZES), help="of the made-up service (1m)")
    parser.add_argument("--out", type=Path, help="where the rows go (benchmarks/results/scale-<size>.json)")
    parser.add_argument("--home", type=Path, help="night: its home; what is in it is used again (default: a fresh one)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
