"""How training reports what it does, without knowing to whom (a terminal, MLflow, a test)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Receives a model's parameters and its metrics per epoch."""

    def params(self, values: Mapping[str, object]) -> None:
        """Hyper-parameters as they were resolved, once."""
        ...

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """An epoch has ended: its number from 1, how many there may be, and figures such as loss and ndcg_at_10."""
        ...

    def note(self, text: str) -> None:
        """A line that a person should see."""
        ...


class NullTracker:
    """Hears everything and keeps nothing."""

    def params(self, values: Mapping[str, object]) -> None:
        """Ignore."""

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class ContinuedTracker:
    """For a second training that goes on where the first one's epochs ended: one numbering for both."""

    def __init__(self, tracker: Tracker, epochs: int) -> None:
        """Hand on to ``tracker`` what is heard, after ``epochs`` epochs."""
        self._tracker = tracker
        self._epochs = epochs

    def params(self, values: Mapping[str, object]) -> None:
        """The first training's are the model's."""

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """Number it after the first training's."""
        self._tracker.epoch(self._epochs + number, self._epochs + total, metrics)

    def note(self, text: str) -> None:
        """Hand it on."""
        self._tracker.note(text)
