"""What the models of the ring took: settings tried, seconds, memory. Read off the artefacts' manifests.

So a figure is known too where an artefact is used again; where it was never taken, it is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from recsys.artefacts import ArtefactRef, read_manifest
from recsys.ring import OURS
from recsys.ring_runs import REPORT
from tasks.ring import BLEND, Entry


def costs(name: str, entry: Entry, evaluation: ArtefactRef) -> dict[str, Any]:
    """What a model took.

    Returns:
        ``params``; ``tried``: every setting with its validation NDCG@10 (None for ours, which stop early instead of
        trying settings); ``seconds``: ``tune``, ``fit`` and ``score``; ``peak_rss_bytes``: ``fit`` (with tuning) and
        ``score``. For ours ``fit`` is everything that had to be made, and ``parts`` has the seconds of each. A
        training that was killed and went on counts from there.
    """
    scored = _summary(evaluation)
    made = _of_ours(name, entry) if name in OURS else _of_rival(entry.model)
    return {
        **made,
        "seconds": {**made["seconds"], "score": scored.get("seconds")},
        "peak_rss_bytes": {"fit": made["peak_rss_bytes"], "score": _peak([evaluation])},
    }


def _of_rival(model: ArtefactRef) -> dict[str, Any]:
    summary = _summary(model)
    report = json.loads(model.file(REPORT).read_text(encoding="utf-8"))
    return {
        "params": summary["params"],
        "tried": report["tried"],
        "seconds": summary["seconds"],
        "peak_rss_bytes": _peak([model]),
    }


def _of_ours(name: str, entry: Entry) -> dict[str, Any]:
    parts = {part: _sum(_seconds(ref) for ref in refs) for part, refs in entry.parts.items()}
    refs = [ref for refs in entry.parts.values() for ref in refs]
    whole = None if name == BLEND else _sum(parts.values())  # its weights are found in NCF's process: not told apart
    return {
        "params": _summary(entry.model).get("settings"),
        "tried": None,
        "seconds": {"tune": None, "fit": whole, "parts": parts},
        "peak_rss_bytes": _peak(refs),
    }


def _seconds(ref: ArtefactRef) -> float | None:
    summary = _summary(ref)
    told = summary.get("seconds")  # a rival's, without what no model needs: starting Python, the copy for a tower
    found: float | None = sum(told.values()) if told else summary.get("cost", {}).get("seconds")
    return found


def _sum(seconds: Iterable[float | None]) -> float | None:
    known = list(seconds)
    return None if None in known else round(sum(value for value in known if value is not None), 3)


def _peak(refs: Iterable[ArtefactRef]) -> int | None:
    peaks = [_summary(ref).get("cost", {}).get("peak_rss_bytes") for ref in refs]
    return None if None in peaks or not peaks else max(peaks)


def _summary(ref: ArtefactRef) -> dict[str, Any]:
    return read_manifest(ref).summary
