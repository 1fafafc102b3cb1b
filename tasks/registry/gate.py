"""The gate's decision in MLflow: as tags of the night's run and of the version, and read back from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

_PREFIX = "marquee."
_FIELDS = ("outcome", "challenger", "serves", "metric", "users", "champion_value", "refresh", "brief", "reason")
_SIDES = {"mean": "difference", "low": "difference_low", "high": "difference_high"}


class GateSummary(BaseModel):
    """What was decided in a night."""

    model_config = ConfigDict(frozen=True)

    outcome: str
    """promote, keep, first or unchanged."""
    challenger: str | None = None
    """The family that was held against the champion."""
    serves: str | None = None
    """The family that serves from then on."""
    metric: str | None = None
    users: int | None = None
    """On whom it was measured."""
    champion_value: float | None = None
    """The champion's mean."""
    difference: float | None = None
    """Challenger less champion."""
    difference_low: float | None = None
    difference_high: float | None = None
    refresh: bool = False
    """Whether the challenger was the champion's own recipe on newer data."""
    brief: str = ""
    reason: str = ""


def decision_tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """A decision as tags. What it does not hold, or holds as None, is left out."""
    held = {name: decision.get(name) for name in _FIELDS}
    interval = decision.get("interval") or {}
    held |= {name: interval.get(side) for side, name in _SIDES.items()}
    return {f"{_PREFIX}{name}": _text(value) for name, value in held.items() if value is not None}


def decision_figures(decision: Mapping[str, Any]) -> dict[str, float]:
    """The difference and its interval as metrics of the run, so that MLflow can draw them over the nights."""
    interval = decision.get("interval") or {}
    return {f"gate_{name}": float(interval[side]) for side, name in _SIDES.items() if side in interval}


def read_decision(tags: Mapping[str, str]) -> GateSummary | None:
    """The decision that tags tell of; None where none was come to."""
    held = {name: tags[f"{_PREFIX}{name}"] for name in GateSummary.model_fields if f"{_PREFIX}{name}" in tags}
    try:
        return GateSummary.model_validate(held)
    except ValidationError:  # none, or written by hand or by another Marquee
        return None


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
