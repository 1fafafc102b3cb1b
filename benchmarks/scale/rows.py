"""What a measurement comes to: one figure, and the bound that it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure of one part. Figures with a bound are ratios against a peer, or shares of a limit."""

    part: str
    """Who measured it: ingest, trainers, export, …"""
    what: str
    """The figure in words."""
    figure: float
    unit: str
    """Such as "×", "GB", "interactions/s"."""
    bound: str | None
    """What it is held against, as text: "<= 2.5"; None where it is shown for information."""
    met: bool | None
    """Whether the bound is met; None without one."""
    detail: dict[str, Any]
    """The figures behind it, the peer's and ours, kept in the JSON."""
