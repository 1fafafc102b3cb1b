"""The figures as JSON: ``scale-<size>.json`` with every part's rows, ``night-<size>.json`` with a night's profile.

Each says on what it was made: machine, command, date, versions.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.quality.results import FOLDER, processor, rounded
from benchmarks.scale.rows import Row
from recsys.artefacts import code_version, write_text

NIGHTS = ("1m", "5m", "25m")
"""Sizes whose nights are compared."""
_PACKAGES = ("torch", "numpy", "scipy", "pyarrow", "duckdb", "implicit", "prefect")


def made(command: str) -> dict[str, Any]:
    """On what, when and by which code figures are made."""
    machine = {
        "cpu": processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }
    return {
        "machine": machine,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "code": code_version(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def command_line() -> str:
    """How this program was called, to be called again."""
    return " ".join(["python -m benchmarks.scale", *sys.argv[1:]])


def keep_part(size: str, part: str, rows: Sequence[Row], seconds: float, error: str | None, path: Path) -> None:
    """Put one part's rows in the place of those of before; parts that were not run stay."""
    found = load(path) or {"size": size, "parts": {}}
    told = {"made": made(command_line()), "seconds": round(seconds, 1), "error": error}
    found["parts"][part] = {**told, "rows": rounded([asdict(row) for row in rows])}
    write_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def keep_night(size: str, figures: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Write a night's profile."""
    command = f"python -m benchmarks.scale night --size {size}"  # the night is run by a child with paths of its own
    told = {"size": size, "made": made(command), **rounded(dict(figures))}
    write_text(folder / f"night-{size}.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> dict[str, Any] | None:
    """What a file holds; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def rows_path(size: str, folder: Path = FOLDER) -> Path:
    """Where the rows of a size lie."""
    return folder / f"scale-{size}.json"


def nights(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The nights that were measured, by size, the smallest first."""
    found = {size: load(folder / f"night-{size}.json") for size in NIGHTS}
    return {size: night for size, night in found.items() if night is not None}


def rows_of(part: Mapping[str, Any]) -> list[Row]:
    """Rows as they were measured."""
    return [Row(**row) for row in part["rows"]]
