"""Where a step's heavy work runs: in processes of this machine, or on a Ray cluster (``[compute] engine``).

The work is the same function either way, and so are its artefacts. Ray is imported by the modules ``ray_*`` alone, and
those only where it was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from recsys.config import ComputeConfig
from recsys.data.pieces import Reader
from recsys.data.sources.base import RawTable
from recsys.listing import Listing, Progress
from recsys.recommend import ListCounts
from recsys.tracker import Tracker
from recsys.workers import ChildResult, run_in_child

T = TypeVar("T")


def train(
    compute: ComputeConfig,
    function: Callable[..., T],
    *args: object,
    together: bool = False,
    name: str,
    threads: int,
    tracker: Tracker,
    log: Path,
    **kwargs: Any,
) -> ChildResult[T]:
    """Run a trainer where the configuration says: see :func:`recsys.workers.run_in_child`, whose arguments these are.

    Args:
        compute: ``[compute]``.
        function: takes keywords ``device``, ``precision`` and ``tracker``; on Ray they are those of where it runs.
        args: its positional arguments.
        together: on Ray, ``[compute] workers`` ranks train one model; ``function`` takes a keyword ``group``, a
            :class:`recsys.distributed.Group`.
        name: the trainer's, in messages.
        threads: CPU threads of a local process.
        tracker: hears the trainer, in the calling thread.
        log: for what it prints, or what it died of.
        kwargs: its other keyword arguments.

    Raises:
        MarqueeError: as the trainer raised it.
        TrainingError: it raised anything else, or was killed, on Ray more often than it is worth trying again.
        ConfigError: Ray is not installed, or its cluster cannot be reached.
    """
    if compute.engine == "local":
        return run_in_child(function, *args, name=name, threads=threads, tracker=tracker, log=log, **kwargs)
    from tasks.engines import ray_cluster

    ray_cluster.connect(compute)
    from tasks.engines import ray_training

    return ray_training.train(compute, function, args, kwargs, together=together, name=name, tracker=tracker, log=log)


def write_lists(compute: ComputeConfig, listing: Listing, folder: Path, progress: Progress) -> ListCounts:
    """Write every user's list as ``part-*.parquet``, in the order of users.

    Raises:
        PublicationError: the model gave a score that is not finite.
        ConfigError: Ray is not installed, or its cluster cannot be reached.
    """
    if compute.engine == "local":
        return listing.write(folder, progress=progress)
    from tasks.engines import ray_cluster

    ray_cluster.connect(compute)
    from tasks.engines import ray_lists

    return ray_lists.write_lists(compute, listing, folder, progress)


def reader_of_files(compute: ComputeConfig) -> Reader | None:
    """Who reads the files of a source with several: None is the process that asks."""
    if compute.engine == "local":
        return None

    def read(raw: RawTable, scratch: Path) -> Iterable[Path]:
        from tasks.engines import ray_cluster

        ray_cluster.connect(compute)
        from tasks.engines import ray_reading

        return ray_reading.read_pieces(compute, raw, scratch)

    return read


def of_its_bytes(compute: ComputeConfig) -> dict[str, Any]:
    """What a distributed trainer's artefact depends on beside its settings: ranks add floats in another order.

    Nothing on one machine, and nothing for a single rank: there the bytes are the same.
    """
    if compute.engine == "local" or compute.workers == 1:
        return {}
    return {"engine": compute.engine, "workers": compute.workers}


def end() -> None:
    """End what was started for this run."""
    cluster = sys.modules.get("tasks.engines.ray_cluster")
    if cluster is not None:
        cluster.disconnect()
