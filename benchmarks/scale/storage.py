"""Artefacts to object storage and back: MB/s against a server on this machine, beside s3fs's own put and get.

The server shares the machine's cores, so the figures are a floor; the ratio to the peer, which checks nothing and keeps
whole files in memory, is what the hashes and the manifest cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import s3fs

from benchmarks.object_server import BUCKET, ObjectServer, object_server
from benchmarks.scale.rows import Row
from recsys.artefacts import ArtefactStore
from recsys.config import StorageConfig
from recsys.remote_artefacts import RemoteArtefacts

MEGABYTES = {"small": 64, "1m": 256, "5m": 512, "25m": 1024}
REPEATS = 3
MEMORY_LIMIT = 250
"""MB above the idle process: four files on their way, two parts of 8 MB each, and the client's own copies."""


def measure(size: str) -> list[Row]:
    """Upload and download one artefact of nine files, ours and the peer's right after each other."""
    megabytes = MEGABYTES[size]
    with tempfile.TemporaryDirectory() as name, object_server(Path(name) / "server") as server:
        folder = Path(name)
        _make(folder / "here", megabytes)
        taken: dict[str, list[dict[str, float]]] = {}
        for repeat in range(REPEATS):
            for way in ("up", "down"):
                for side in ("peer", "ours"):
                    taken.setdefault(f"{side} {way}", []).append(_child(side, way, folder, repeat, server))
    return [row for way in ("up", "down") for row in _rows(way, megabytes, taken[f"ours {way}"], taken[f"peer {way}"])]


def _make(home: Path, megabytes: int) -> None:
    numbers = np.random.default_rng(0)
    with ArtefactStore(home).create("dataset", {}, {}) as (draft, _):
        for part, share in enumerate([0.6, *[0.05] * 8]):
            draft.file(f"part-{part}.bin").write_bytes(numbers.bytes(int(share * megabytes * 1e6)))


def _child(side: str, way: str, folder: Path, repeat: int, server: ObjectServer) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale.storage", "--child", side, way, str(folder), str(repeat)]
    done = subprocess.run([*command, server.endpoint], env=_with(server), check=True, stdout=subprocess.PIPE)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _with(server: ObjectServer) -> dict[str, str]:
    return {**os.environ, **server.environment}


def _rows(way: str, megabytes: int, ours: list[dict[str, float]], peer: list[dict[str, float]]) -> list[Row]:
    seconds = {"ours": _median(ours, "seconds"), "peer": _median(peer, "seconds")}
    grown = {"ours": _median(ours, "grown_mb"), "peer": _median(peer, "grown_mb")}
    detail: dict[str, Any] = {"megabytes": megabytes, "seconds": seconds, "grown_mb": grown, "repeats": REPEATS}
    what = {"up": "upload of an artefact", "down": "download of an artefact"}[way]
    memory, bound = grown["ours"], f"<= {MEMORY_LIMIT} MB"
    return [
        Row("storage", f"{what}: speed", megabytes / seconds["ours"], "MB/s", None, None, detail),
        Row("storage", f"{what}: time, of s3fs's own", seconds["ours"] / seconds["peer"], "×", None, None, detail),
        Row("storage", f"{what}: memory it adds", memory, "MB", bound, memory <= MEMORY_LIMIT, detail),
    ]


def _median(taken: list[dict[str, float]], what: str) -> float:
    return statistics.median(each[what] for each in taken)


def _work(side: str, way: str, folder: Path, repeat: str, endpoint: str) -> dict[str, float]:
    home = folder / ("here" if way == "up" else f"{side}-{repeat}")
    url = f"{BUCKET}/{side}-{repeat}"
    mirror = RemoteArtefacts.of(StorageConfig(url=f"s3://{url}", endpoint=endpoint))
    ArtefactStore(folder / "none", mirror).find("dataset", {}, {"none": 1})  # connected, as a night in its middle is
    plain = s3fs.S3FileSystem(endpoint_url=endpoint)
    plain.exists(f"{url}/none")
    idle, began = _peak_mb(), time.perf_counter()
    if side == "ours":
        assert ArtefactStore(home, mirror).find("dataset", {}, {}) is not None
    elif way == "up":
        plain.put(f"{folder}/here/artefacts/dataset/", f"{url}/", recursive=True)
    else:
        plain.get(f"{url}/", f"{home}/", recursive=True)
    return {"seconds": time.perf_counter() - began, "grown_mb": _peak_mb() - idle}


def _peak_mb() -> float:
    """Since this program began: ``ru_maxrss`` would count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Print the rows, or be the child."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.storage")
    parser.add_argument("--size", default="small", choices=MEGABYTES)
    parser.add_argument("--child", nargs=5)
    asked = parser.parse_args()
    if asked.child:
        side, way, folder, repeat, endpoint = asked.child
        print(json.dumps(_work(side, way, Path(folder), repeat, endpoint)))
        return
    for row in measure(asked.size):
        print(f"{row.what:40} {row.figure:8.2f} {row.unit:5} {row.bound or '':12} {row.met} {row.detail}")


if __name__ == "__main__":
    main()
