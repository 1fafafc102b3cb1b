"""A step's heavy work on this machine, in a process of its own: what it held is given back before the next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from recsys.devices import assign
from recsys.workers import ChildResult, run_in_child
from tasks.events import EventTracker
from tasks.run import Run

T = TypeVar("T")


def in_child(
    run: Run, function: Callable[..., T], *args: object, stage: str, name: str, **kwargs: object
) -> ChildResult[T]:
    """Run a function that takes a keyword ``tracker`` on all of the run's threads, and wait for it.

    Args:
        run: whose threads, and whose folder the log is written into.
        function: importable by name; see :func:`recsys.workers.run_in_child`.
        args: its positional arguments: paths, not tables.
        stage: that it belongs to: who hears its events, and the log's name.
        name: what it makes, in messages.
        kwargs: its other keyword arguments.

    Raises:
        MarqueeError: as the function raised it.
        TrainingError: it raised anything else, or its process was killed.
    """
    return run_in_child(
        function,
        *args,
        name=name,
        threads=assign(1, device="cpu", threads=run.config.compute.threads)[0].threads,
        tracker=EventTracker(stage),
        log=run.folder / "logs" / f"{stage}.log",
        **kwargs,
    )
