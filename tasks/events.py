"""What a night does, as it happens: tasks emit events, a display (or a test) listens. Knows nothing of terminals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageStarted:
    """A stage has begun."""

    stage: str


@dataclass(frozen=True)
class EpochEnded:
    """A model of a stage has gone once over its data."""

    stage: str
    number: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RowsDone:
    """A stage has come this far (rows, users, bytes: ``unit``); ``total`` is None where it is not known."""

    stage: str
    done: int
    total: int | None
    unit: str = "rows"


@dataclass(frozen=True)
class Note:
    """A line that a person should see."""

    stage: str
    text: str


@dataclass(frozen=True)
class StageEnded:
    """A stage has ended: well, reused, or failed (``error`` says how)."""

    stage: str
    seconds: float
    rows: int | None
    reused: bool
    error: str | None = None


Event = StageStarted | EpochEnded | RowsDone | Note | StageEnded
Listener = Callable[[Event], None]

_listeners: list[Listener] = []
_lock = threading.Lock()


def emit(event: Event) -> None:
    """Tell every listener, one event at a time (tasks run in threads)."""
    with _lock:
        for listener in tuple(_listeners):
            listener(event)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear events for the length of the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class EventTracker:
    """A :class:`recsys.tracker.Tracker` that emits a stage's epochs and notes as events."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def params(self, values: Mapping[str, object]) -> None:
        """Parameters are no event."""

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """Emit the epoch."""
        emit(EpochEnded(self.stage, number, total, dict(metrics)))

    def note(self, text: str) -> None:
        """Emit the note."""
        emit(Note(self.stage, text))
