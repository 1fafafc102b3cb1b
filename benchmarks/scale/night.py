"""A whole night: ``marquee nightly``, as configured by default, on a made-up service; what every stage of it took."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality.sources import ROOT
from benchmarks.scale.data import FOLDER, configuration, marquee
from benchmarks.scale.kept import keep_night, load
from benchmarks.scale.rows import Row
from recsys.usage import Usage, measured

LIMITS = {"25m": (60.0, 8.0)}
"""Size → minutes, GB of all processes together."""
_KEPT = ("stage", "seconds", "rows", "rows_per_second", "peak_rss_bytes", "cpu_seconds", "cost", "reused", "error")


def measure(size: str, home: Path | None = None) -> list[Row]:
    """Run a night from nothing and keep its profile as ``night-<size>.json``.

    Args:
        size: of the service.
        home: where. What lies there is used again, and the figures then tell less; None: a home of the benchmark's
            own, emptied first.

    Raises:
        RuntimeError: the night failed. The profile says how far it came.
    """
    place = home or FOLDER / "homes" / size
    if home is None:
        shutil.rmtree(place, ignore_errors=True)
    figures = run(size, place)
    keep_night(size, figures)
    if figures["exit_code"] not in {0, 3}:
        raise RuntimeError(f"the night ended with exit code {figures['exit_code']}: {figures['failure']}")
    return rows(size, figures)


def run(size: str, home: Path) -> dict[str, Any]:
    """One night as a process of its own, watched from outside: all of its processes count."""
    given = configuration(size, FOLDER / "homes" / f"{size}.toml")
    usage, began = Usage(), time.monotonic()
    with measured(usage):
        command = [*marquee(), "nightly", "--config", str(given), "--home", str(home)]
        ended = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - began
    sys.stderr.write(ended.stderr)
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    manifest = load(home / "runs" / "latest.json") or {}
    return {
        "seconds": seconds,
        "peak_rss_bytes": max(usage.peak_bytes, manifest.get("peak_rss_bytes", 0)),
        "cpu_seconds": own.ru_utime + own.ru_stime,
        "exit_code": ended.returncode,
        "failure": (ended.stderr.strip().splitlines() or [""])[-1] if ended.returncode not in {0, 3} else None,
        "stages": [{name: stage.get(name) for name in _KEPT} for stage in manifest.get("stages", ())],
        "rows": manifest.get("rows", {}),
        "metrics": manifest.get("metrics", {}),
        "decision": (manifest.get("decision") or {}).get("reason"),
    }


def rows(size: str, figures: Mapping[str, Any]) -> list[Row]:
    """A night's time and memory against the limits. A night that used what lay there proves no time."""
    minutes, gigabytes = figures["seconds"] / 60, figures["peak_rss_bytes"] / 1e9
    reused = [stage["stage"] for stage in figures["stages"] if stage["reused"]]
    most_minutes, most_gigabytes = LIMITS.get(size, (None, None))
    detail = {"decision": figures["decision"], "reused": reused, "cpu_seconds": figures["cpu_seconds"]}
    fresh = figures["exit_code"] in {0, 3} and not reused
    return [
        Row("night", f"the whole night, {size}", minutes, "min", *_held(minutes, most_minutes, fresh), detail),
        Row("night", f"memory of all processes together, {size}", gigabytes, "GB",
            *_held(gigabytes, most_gigabytes, fresh), {}),
    ]  # fmt: skip


def _held(figure: float, most: float | None, fresh: bool) -> tuple[str | None, bool | None]:
    return (None, None) if most is None else (f"<= {most:g}", fresh and figure <= most)


def main() -> None:
    """Print the rows of a night that was measured."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("night-*.json")):
        figures = json.loads(path.read_text(encoding="utf-8"))
        for row in rows(figures["size"], figures):
            print(row)


if __name__ == "__main__":
    main()
