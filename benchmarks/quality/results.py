"""The figures as JSON, one file per section and dataset, rounded: what is committed, and what the page is made from."""

from __future__ import annotations

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from benchmarks.quality.sources import ROOT
from recsys.artefacts import code_version, write_text

FOLDER = ROOT / "benchmarks" / "results"
Results = dict[str, dict[str, dict[str, Any]]]
"""Section → dataset → figures."""


def keep(section: str, dataset: str, figures: dict[str, Any], today: date, folder: Path = FOLDER) -> None:
    """Write the figures of one section on one dataset, with when and on what they were made."""
    made = {"date": today.isoformat(), "code": code_version(), "machine": machine()}
    text = json.dumps({"made": made, **rounded(figures)}, indent=1) + "\n"
    write_text(folder / f"{section}.{dataset}.json", text)


def load_all(folder: Path = FOLDER) -> Results:
    """All figures that there are."""
    found: Results = {}
    for path in sorted(folder.glob("*.*.json")):
        section, _, dataset = path.stem.partition(".")
        found.setdefault(section, {})[dataset] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rounded(value: Any, digits: int = 5) -> Any:
    """The same with every float rounded: figures are not known any better, and differences stay readable."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {str(key): rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return value


def machine() -> str:
    """The machine in words: processor, cores, memory, Python."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{processor()}, {psutil.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def processor() -> str:
    """The processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
