"""The Ray cluster that a run works on: one that is there, or one of this machine's, which ends with the process.

A cluster of our own listens on loopback only, behind a token, has no dashboard and sends no usage statistics.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from recsys.config import ComputeConfig
from recsys.devices import available_cores
from recsys.errors import ConfigError, MarqueeError

OBJECT_STORE_BYTES = 128 << 20
"""What lies in the object store are messages and counts; tables go through files."""
_KNOCK_SECONDS = 5.0
_SPARE = 2
"""Trainers that run beside the distributed one and its ranks."""

_lock = threading.Lock()
_folder: Path | None = None
"""Of the cluster that we started."""


def connect(compute: ComputeConfig) -> None:
    """Join the configured cluster, or start one; nothing if this process is on one already.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    with _lock:
        ray = library(local=compute.ray_address is None)
        if ray.is_initialized():
            return
        if compute.ray_address is not None:
            _join(ray, compute.ray_address)
        else:
            _start(ray, compute)


def disconnect() -> None:
    """Leave the cluster; one that we started is ended, and what it wrote removed."""
    global _folder  # noqa: PLW0603 - one cluster per process, as Ray has it
    with _lock:
        import ray

        if ray.is_initialized():
            ray.shutdown()
        if _folder is not None:
            shutil.rmtree(_folder, ignore_errors=True)
            _folder = None


def threads_per_worker(compute: ComputeConfig) -> int:
    """CPU threads of a rank, task or actor: an even share of this machine's, or one each on a cluster that was joined.

    ``[compute] threads`` is what all workers have together.
    """
    cores = available_cores() if compute.ray_address is None else compute.workers
    return max(1, (compute.threads or cores) // compute.workers)


def uses_gpus(compute: ComputeConfig) -> bool:
    """Whether workers get a GPU each: the cluster has some, and ``[compute] device`` is not the CPU."""
    import ray

    return compute.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1


def quiet() -> None:
    """Have Ray Data show no progress bars and no plans: the run's own display tells of progress."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False


def library(*, local: bool) -> Any:
    """Ray, imported so that a cluster of our own (``local``) is this machine's alone.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    if local:
        # Its own word for "this machine's address is 127.0.0.1".
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if local and "ray" not in sys.modules:  # read when Ray is imported
        # A token of this run's own: else Ray writes one into the user's home, for every cluster to come.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "the engine is ray, and Ray is not installed",
            where="[compute] engine",
            remedy='install it with `pip install -c constraints.txt "marquee[ray]"`, or set engine = "local"',
        ) from None
    if local:
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False  # read when Ray was imported, perhaps before we were asked
    return ray


def _join(ray: Any, address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, logging_level="error", log_to_driver=False)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {address} ({' '.join(str(error).split())[:200]})",
            where="[compute] ray_address",
            remedy="start it there (`ray start --head`), mend the address, or leave it out for a cluster of this run's",
        ) from None
    atexit.register(disconnect)


def _knock(address: str) -> None:
    """Hold that somebody listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _start(ray: Any, compute: ComputeConfig) -> None:
    global _folder  # noqa: PLW0603
    _folder = Path(tempfile.mkdtemp(prefix="marquee-ray-"))  # sockets lie in it: their paths must be short
    threads = threads_per_worker(compute)
    try:
        ray.init(
            num_cpus=max(available_cores(), (compute.workers + _SPARE) * threads),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(_folder),
            logging_level="error",
            log_to_driver=False,
        )
    except (RuntimeError, OSError, ValueError) as error:
        shutil.rmtree(_folder, ignore_errors=True)
        raise MarqueeError(
            f"Ray could not start a cluster on this machine ({' '.join(str(error).split())[:300]})",
            where="[compute] engine",
            remedy='see what it lacks (memory, a short temporary folder), or set engine = "local"',
        ) from error
    atexit.register(disconnect)
