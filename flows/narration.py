"""Events as sentences: what the log and a plain terminal say."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.events import EpochEnded, Event, Note, RowsDone, StageEnded, StageStarted


def sentence(event: Event) -> str:
    """One line for an event."""
    match event:
        case StageStarted(stage):
            return f"{stage}: started"
        case EpochEnded(stage, number, total, metrics):
            return f"{stage}: epoch {number}/{total} {figures(metrics)}".rstrip()
        case RowsDone(stage, done, total, unit):
            return f"{stage}: {done:,}{f' of {total:,}' if total else ''} {unit}"
        case Note(stage, text):
            return f"{stage}: {text}"
        case StageEnded(stage, seconds, rows, reused, error):
            if error:
                return f"{stage}: failed after {seconds:.1f} s: {error}"
            how = "reused" if reused else f"done in {seconds:.1f} s"
            return f"{stage}: {how}{f', {rows:,} rows' if rows is not None else ''}"


def figures(metrics: Mapping[str, float]) -> str:
    """Metrics on one line: ``loss 0.4312, ndcg_at_10 0.2817``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
