"""Training, live in MLflow: epochs are buffered and written to the model's nested run, from whatever thread.

What MLflow misses while it is away is no loss: :func:`tasks.registry.runs.log_report` writes all of it at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue

from recsys.errors import RegistryError
from tasks.events import EpochEnded, Event, Note, StageEnded, emit, listening
from tasks.registry.connection import Registry
from tasks.registry.runs import log, log_epochs, model_run
from tasks.run import Run

FLUSH_SECONDS = 5.0


class RunTracker:
    """A :class:`recsys.tracker.Tracker` over one MLflow run.

    Never fails the training that it watches: when MLflow does not answer, it says so once and keeps what it has for
    :meth:`finish`.
    """

    def __init__(self, registry: Registry, run_id: str, name: str, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._registry = registry
        self._run_id = run_id
        self._name = name
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._epochs: dict[int, dict[str, float]] = {}
        self._params: dict[str, object] = {}
        self._notes: list[str] = []
        self._flushed_at = time.monotonic()
        self._away = False

    def params(self, values: Mapping[str, object]) -> None:
        """Keep parameters for the next write."""
        with self._lock:
            self._params |= values

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """Keep an epoch; write what is kept when some seconds have gone by or it was the last."""
        with self._lock:
            self._epochs[number] = dict(metrics)
            due = number >= total or time.monotonic() - self._flushed_at >= self._flush_seconds
            if due and not self._away:
                self._flush()

    def note(self, text: str) -> None:
        """Keep a note: it becomes the run's description."""
        with self._lock:
            self._notes.append(text)

    def finish(self, status: str) -> bool:
        """Write what is left and end the run: FINISHED, FAILED or KILLED. Gives whether MLflow took it."""
        with self._lock:
            return self._flush() and self._told(
                lambda: self._registry.client.set_terminated(self._run_id, status=status)
            )

    def _flush(self) -> bool:
        self._flushed_at = time.monotonic()
        return self._told(self._write)

    def _write(self) -> None:
        log(self._registry, self._run_id, params=self._params)
        self._params = {}
        log_epochs(self._registry, self._run_id, self._epochs)
        self._epochs = {}
        if self._notes:
            log(self._registry, self._run_id, tags={"mlflow.note.content": "\n\n".join(self._notes)})

    def _told(self, action: Callable[[], object]) -> bool:
        try:
            with self._registry.doing("logging the epochs"):
                action()
        except RegistryError as error:
            if not self._away:
                emit(Note(self._name, f"MLflow is not told of this model's epochs until the end: {error}"))
            self._away = True
            return False
        self._away = False
        return True


@contextmanager
def live(registry: Registry, run: Run, parent: str) -> Iterator[None]:
    """For the length of the block, write every epoch that stages emit to their models' nested runs.

    A thread of its own does the writing: a slow MLflow holds up neither training nor the display.
    """
    queue: SimpleQueue[Event | None] = SimpleQueue()
    writer = threading.Thread(target=_write, args=(registry, run, parent, queue), name="mlflow writer", daemon=True)
    writer.start()
    try:
        with listening(queue.put):
            yield
    finally:
        queue.put(None)
        writer.join(timeout=60)


def _write(registry: Registry, run: Run, parent: str, queue: SimpleQueue[Event | None]) -> None:
    trackers: dict[str, RunTracker] = {}
    while (event := queue.get()) is not None:
        if isinstance(event, EpochEnded):
            if event.stage not in trackers:
                try:
                    with registry.doing("opening the model's run"):
                        run_id = model_run(registry, run, parent, event.stage)
                except RegistryError as error:
                    emit(Note(event.stage, f"MLflow is not told of any epochs until the end: {error}"))
                    return
                trackers[event.stage] = RunTracker(registry, run_id, event.stage)
            trackers[event.stage].epoch(event.number, event.total, event.metrics)
        elif isinstance(event, StageEnded) and event.stage in trackers:
            trackers.pop(event.stage).finish("FAILED" if event.error else "FINISHED")
    for tracker in trackers.values():
        tracker.finish("KILLED")
