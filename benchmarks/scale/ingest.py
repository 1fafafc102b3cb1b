"""From CSV to a validated dataset, against DuckDB's plain COPY of the same ratings; the second night; the split.

Every side runs in a process of its own, one right after the other, on the same number of threads. Modules are imported
before the clock starts (a night imports them once). ``python -m benchmarks.scale.ingest --size 1m``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from benchmarks.quality.sources import ROOT
from benchmarks.scale.data import FOLDER, Service, service
from benchmarks.scale.rows import Row

PART = "ingest"
REPEATS = {"25m": 1, "5m": 3}
"""How often a side is measured; the middle counts."""
_ROWS_AN_EDIT, _ROWS_AN_ERASURE = 50_000, 100_000
"""Of a second night, beside the 1 % that are appended: one rating in so many is changed, one user erased."""
_NIGHTS = (date(2026, 11, 23), date(2026, 11, 24))


def measure(size: str) -> list[Row]:
    """The figures of this part."""
    threads = min(2, os.cpu_count() or 1)
    (FOLDER / "homes").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER / "homes") as folder:
        place, data = Path(folder), service(size)
        peers, ours = [], []
        for _ in range(REPEATS.get(size, 3)):
            shutil.rmtree(place / "home", ignore_errors=True)
            peers.append(_child("peer", data, place, threads))
            ours.append(_child("first", data, place, threads))
        split = _child("split", data, place, threads)
        later = _child("second", _second_night(data, place), place, threads)
    return _rows(peers, ours, later, split)


def _rows(
    peers: list[dict[str, Any]], ours: list[dict[str, Any]], later: dict[str, Any], split: dict[str, Any]
) -> list[Row]:
    peer, first = (statistics.median(run["seconds"] for run in runs) for runs in (peers, ours))
    cpu = [statistics.median(run["cpu_seconds"] for run in runs) for runs in (ours, peers)]
    parsed = later["parsed_bytes"] / (later["parsed_bytes"] + later["kept_bytes"])
    peak = max(run["peak_rss_gb"] for run in ours)

    def row(what: str, figure: float, unit: str, bound: float | None, **detail: Any) -> Row:
        met = None if bound is None else figure <= bound
        return Row(PART, what, figure, unit, None if bound is None else f"<= {bound:g}", met, detail)

    return [
        row("CSV to validated dataset, time against DuckDB's COPY", first / peer, "×", 2.5, ours=ours, peer=peers),
        row("the same in CPU seconds", cpu[0] / cpu[1], "×", None),
        row("peak memory, ingest and validate", peak, "GB", 2.0),
        row("second night: share of the text parsed again", parsed, "share", 0.05, later=later),
        row("second night: time against the first", later["seconds"] / first, "×", None),
        row("second night: CPU seconds against the first", later["cpu_seconds"] / cpu[0], "×", 1.0),
        row("split: time", split["seconds"], "s", 60.0, split=split),
        row("split: peak memory", split["peak_rss_gb"], "GB", 3.0),
    ]


def _child(side: str, data: Service, place: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale.ingest", "--side", side, "--threads", str(threads)]
    command += ["--ratings", str(data.ratings), "--titles", str(data.titles), "--place", str(place)]
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _second_night(data: Service, place: Path) -> Service:
    """1 % more ratings at the end, some changed where they stand, some users erased."""
    draw, path = random.Random(1), place / "later.csv"
    lines = data.ratings.read_bytes().splitlines(keepends=True)
    for at in draw.sample(range(1, len(lines)), 1 + len(lines) // _ROWS_AN_EDIT):
        user, item, _, when = lines[at].split(b",")
        lines[at] = b",".join((user, item, b"1.5", when))
    gone = {line.split(b",")[0] for line in draw.sample(lines[1:], 1 + len(lines) // _ROWS_AN_ERASURE)}
    kept = [line for line in lines if line.split(b",")[0] not in gone]
    more = [
        b"new%d,%s" % (n % 997, line.split(b",", 1)[1]) for n, line in enumerate(draw.sample(kept, len(lines) // 100))
    ]
    path.write_bytes(b"".join([*kept, *more]))
    return Service(path, data.titles)


def _peer(data: Service, place: Path, threads: int) -> Callable[[], dict[str, Any]]:
    import duckdb

    def copy() -> dict[str, Any]:
        with duckdb.connect(config={"threads": threads}) as database:
            source = str(data.ratings).replace("'", "''")
            database.execute(
                f"COPY (SELECT * FROM read_csv('{source}')) TO '{place / 'peer.parquet'}' (FORMAT parquet)"
            )
        return {}

    return copy


def _ours(data: Service, place: Path, threads: int, night: int) -> Callable[[], dict[str, Any]]:
    from expectations.engine import load
    from recsys.data.ingest import ingest
    from tasks.validate import validate

    load()
    run = _run(data, place, threads, night)

    def bring_in() -> dict[str, Any]:
        done = ingest(run.config.source, run.home, threads=threads)
        validated = validate.fn(run, done.dataset)
        (place / "validated.json").write_text(validated.model_dump_json())
        return {name: getattr(done, name) for name in ("rows", "kept_rows", "kept_bytes", "parsed_bytes")}

    return bring_in


def _split(data: Service, place: Path, threads: int) -> Callable[[], dict[str, Any]]:
    from recsys.artefacts import ArtefactRef
    from tasks.split import make_split

    run = _run(data, place, threads, 0)
    validated = ArtefactRef.model_validate_json((place / "validated.json").read_bytes())
    return lambda: {"artefact": make_split.fn(run, validated).digest}


def _run(data: Service, place: Path, threads: int, night: int) -> Any:
    """A night that reads ``ratings.csv`` in the place, a link to the night's file: the same source every night."""
    from recsys.config import Config, SourceConfig
    from tasks.run import Run

    link = place / "ratings.csv"
    link.unlink(missing_ok=True)
    link.symlink_to(data.ratings.resolve())
    source = SourceConfig(kind="files", ratings=str(link), titles=str(data.titles))
    config = Config(home=place / "home", source=source, compute={"threads": threads})
    started = datetime.combine(_NIGHTS[night], datetime.min.time(), UTC)
    return Run(run_id=f"night-{night}", run_date=_NIGHTS[night], config=config, started_at=started)


def _side(asked: argparse.Namespace) -> dict[str, Any]:
    data = Service(asked.ratings, asked.titles)
    sides: dict[str, Callable[[], Callable[[], dict[str, Any]]]] = {
        "peer": lambda: _peer(data, asked.place, asked.threads),
        "first": lambda: _ours(data, asked.place, asked.threads, 0),
        "second": lambda: _ours(data, asked.place, asked.threads, 1),
        "split": lambda: _split(data, asked.place, asked.threads),
    }
    work = sides[asked.side]()
    began, cpu = time.perf_counter(), time.process_time()
    told = work()
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    return told | {"seconds": seconds, "cpu_seconds": spent, "peak_rss_gb": peak}


def main() -> int:
    """Measure and print, or (``--side``) be one side of a measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.ingest", description=__doc__)
    parser.add_argument("--size", default="1m")
    parser.add_argument("--side")
    parser.add_argument("--threads", type=int, default=2)
    for name in ("--ratings", "--titles", "--place"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(_side(asked)))
        return 0
    rows = measure(asked.size)
    for row in rows:
        print(f"{row.what}: {row.figure:.3g} {row.unit} (bound {row.bound}, met {row.met})")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
