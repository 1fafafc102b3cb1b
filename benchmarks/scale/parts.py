"""Runs one part in a process of its own: what it holds or breaks is not the next part's."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.quality.results import rounded
from benchmarks.quality.sources import ROOT
from benchmarks.scale.rows import Row

PARTS = ("ingest", "baselines", "trainers", "export")
"""Peers and limits, measured anew by every run. One whose module is missing has failed."""
NIGHTS = ("night", "growth")
"""Whole nights: minutes to an hour each. Where they are not asked for, the figures of the last ones are shown."""


def all_parts() -> tuple[str, ...]:
    """Those, and every other module beside this one that measures something and is no night."""
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if "\ndef measure(" in path.read_text("utf-8"))
    return (*PARTS, *(path.stem for path in modules if path.stem not in {*PARTS, *NIGHTS}))


@dataclass(frozen=True)
class Measured:
    """What a part came to."""

    part: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    """One line, where it failed."""


def run_part(part: str, size: str, home: Path | None = None) -> Measured:
    """Measure one part; a failure is told, not raised. What the part prints goes to the standard error.

    Args:
        part: the module's name.
        size: of the service.
        home: for the part that runs a night: where.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.scale.parts", part, "--size", size, "--out", str(out)]
        command += [] if home is None else ["--home", str(home)]
        ended = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        seconds = time.monotonic() - began
        if not out.is_file():
            return Measured(part, [], seconds, f"it ended with status {ended.returncode}")
        told = json.loads(out.read_text(encoding="utf-8"))
    return Measured(part, [Row(**row) for row in told["rows"]], seconds, told["error"])


def main(arguments: list[str] | None = None) -> int:
    """The child: measure, and write rows or what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.parts")
    parser.add_argument("part")
    parser.add_argument("--size", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it started ends with it
    rows, error = [], None
    try:
        module = importlib.import_module(f"benchmarks.scale.{asked.part}")
        rows = module.measure(asked.size, **({} if asked.home is None else {"home": asked.home}))
    except Exception as failure:  # whatever it was, the other parts go on
        sys.excepthook(type(failure), failure, failure.__traceback__)
        error = f"{type(failure).__name__}: {failure}".splitlines()[0]
    told = {"rows": rounded([asdict(row) for row in rows]), "error": error}
    asked.out.write_text(json.dumps(told, default=str), encoding="utf-8")
    return 1 if error else 0


if __name__ == "__main__":
    raise SystemExit(main())
