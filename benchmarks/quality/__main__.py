"""``python -m benchmarks.quality [section …] [--only dataset]``: remake the figures of docs/benchmarks.md.

Without a section: all of them, and the page. A section alone leaves the figures of the others as they are.
"""

from __future__ import annotations

import argparse
import os
import resource
import threading
import time
from datetime import date
from functools import partial
from pathlib import Path

from benchmarks.quality import results
from benchmarks.quality.bench import Bench, together
from benchmarks.quality.datasets import DATASETS
from benchmarks.quality.page import write_page
from benchmarks.quality.sections import SECTIONS
from benchmarks.quality.sources import ROOT
from recsys.devices import available_cores
from recsys.errors import MarqueeError


def main(arguments: list[str] | None = None) -> int:
    """Run the sections asked for and render the page."""
    asked = _parser().parse_args(arguments)
    bench = Bench(
        home=asked.home.resolve(),
        given=Path(os.environ.get("MARQUEE_TEST_DATA", ROOT.parent / "shared" / "data")).resolve(),
        downloads=(ROOT / ".marquee" / "downloads"),
        budget=asked.budget,
        slots=threading.Semaphore(asked.slots or available_cores()),
    )
    names = [name for name in asked.sections or SECTIONS if name != "render"]
    began = time.monotonic()
    try:
        together(*(partial(_section, bench, name, tuple(asked.only)) for name in names))
    except MarqueeError as error:
        print(error)
        return 1
    if names:
        used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        processor = sum(each.ru_utime + each.ru_stime for each in used)
        print(f"{time.monotonic() - began:,.0f} s in all, {processor:,.0f} s of processor time")
    write_page(results.load_all(), ROOT)
    return 0


def _section(bench: Bench, name: str, only: tuple[str, ...]) -> None:
    section = SECTIONS[name]
    there = []
    for dataset in section.datasets:
        missing = DATASETS[dataset].missing(bench.place)
        if only and dataset not in only:
            continue
        if missing:
            print(f"{name}: {dataset} is left out, for {', '.join(missing)} is not in {bench.given}")
            continue
        there.append(dataset)
    began = time.monotonic()

    def of(dataset: str) -> None:
        results.keep(name, dataset, section.figures(bench, dataset), date.today())

    together(*(partial(of, dataset) for dataset in there))
    print(f"{name}: {time.monotonic() - began:,.0f} s, beside the others")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, "render"], help="which to remake (default: all)")
    parser.add_argument("--only", action="append", default=[], choices=list(DATASETS), help="only this dataset")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench", help="where trainings are kept (.bench)")
    parser.add_argument("--slots", type=int, help="heavy steps at a time (default: one per core)")
    parser.add_argument("--budget", type=int, help="most settings tried of each neural rival (default: six)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
