"""What every model offers to evaluation and export: scores for users given by their histories."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from recsys.histories import Floats, Histories


@runtime_checkable
class Scorer(Protocol):
    """Scores every title for users given by their histories.

    Inductive: a user is the history that is passed, whether the model was fitted on it or not. The scorer decides
    what of a history it reads (order, positives only, …). It does not mask seen titles: the caller does.
    """

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        ...

    def scores(self, histories: Histories) -> Floats:
        """Scores [histories.n_users, n_items], float32, finite; higher is better. Deterministic. Accepts empty rows."""
        ...

    def save(self, folder: Path) -> None:
        """Write as safetensors and JSON (never pickle)."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote: it scores exactly the same."""
        ...
