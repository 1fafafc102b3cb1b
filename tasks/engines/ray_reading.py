"""Many files of ratings read on a Ray cluster (Ray Data): a task a file, as many at a time as there are workers.

The files, and the scratch folder under home that the pieces go to, must be visible to every machine of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.data
import ray.exceptions

from recsys.config import ComputeConfig
from recsys.data.pieces import read_piece
from recsys.data.sources.base import RawFile, RawTable
from recsys.errors import MarqueeError
from tasks.engines.ray_cluster import quiet, threads_per_worker


def read_pieces(compute: ComputeConfig, raw: RawTable, scratch: Path) -> Iterable[Path]:
    """A :data:`recsys.data.pieces.Reader`.

    Raises:
        MarqueeError: the cluster lost its workers too often.
    """
    quiet()
    threads = threads_per_worker(compute)
    read = partial(_read, raw=_absolute(raw), scratch=scratch.resolve(), threads=threads)
    numbers = ray.data.from_items([{"number": n} for n in range(len(raw.files))], override_num_blocks=len(raw.files))
    pieces = numbers.map(read, num_cpus=threads, concurrency=min(compute.workers, len(raw.files)))
    try:
        return [Path(piece["folder"]) for piece in sorted(pieces.iter_rows(), key=lambda piece: int(piece["number"]))]
    except ray.exceptions.RayError as error:
        raise MarqueeError(
            f"the ratings could not be read on Ray ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            where=raw.files[0].where,
            remedy="the same command begins anew",
        ) from error


def _read(row: dict[str, Any], *, raw: RawTable, scratch: Path, threads: int) -> dict[str, Any]:
    number = int(row["number"])
    return {"number": number, "folder": str(read_piece(raw, number, scratch, threads=threads))}


def _absolute(raw: RawTable) -> RawTable:
    return replace(raw, files=tuple(RawFile(file.path.resolve(), file.member) for file in raw.files))
