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
