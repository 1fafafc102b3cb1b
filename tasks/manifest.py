"""A run's manifest: what it did, measured, decided and published, put together from its stages' records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from prefect import task
from pydantic import BaseModel

from recsys.artefacts import code_version, read_manifest, write_text
from recsys.errors import MarqueeError
from recsys.publish.files import FileSink, Pointer
from tasks.run import Run, StageRecord, stage_records


@task(name="write-run-manifest")
def write_run_manifest(
    run: Run, decision: BaseModel | None = None, publication: Pointer | None = None, error: str | None = None
) -> dict[str, Any]:
    """Write ``run_manifest.json``, and replace ``runs/latest.json`` with it.

    Args:
        run: the run that has ended.
        decision: what the gate decided, if it came to that.
        publication: what this run published, or found published already.
        error: the paragraph it failed with, if it did.
    """
    records = stage_records(run)
    ended = datetime.now(UTC)
    by_stage = {record.stage: record for record in records}
    tracking = by_stage.get("tracking")
    validated = _summary(by_stage.get("validate"))
    evaluation = _summary(by_stage.get("evaluate"))
    manifest = {
        "run_id": run.run_id,
        "run_date": run.run_date.isoformat(),
        "status": "failed" if error else "published" if publication else "finished",
        "error": error,
        "started_at": run.started_at.isoformat(),
        "ended_at": ended.isoformat(),
        "seconds": round((ended - run.started_at).total_seconds(), 3),
        "code_version": code_version(),
        "seed": run.config.seed,
        "home": str(run.home.resolve()),
        "configuration": run.config.model_dump(mode="json", exclude={"tracking": {"uri"}}),  # it may hold a password
        "peak_rss_bytes": max((record.peak_rss_bytes for record in records), default=0),  # of all processes together
        "stages": [record.model_dump(mode="json") | {"rows_per_second": record.rows_per_second} for record in records],
        "reused": [record.stage for record in records if record.reused],
        "rows": {record.stage: record.rows for record in records if record.rows is not None},
        "quarantined": _detail(by_stage.get("validate"), "quarantined"),
        "duplicates": _detail(by_stage.get("validate"), "duplicates"),
        "source": validated.get("source"),
        "licence": validated.get("licence"),
        "citation": validated.get("citation"),
        "split": _summary(by_stage.get("split")).get("strategy"),
        "metrics": evaluation.get("metrics", {}),
        "decision": None if decision is None else decision.model_dump(mode="json"),
        "lists": _summary(by_stage.get("recommend")),
        "publication": None if publication is None else publication.model_dump(mode="json", exclude={"previous"}),
        "served": _served(run),
        "tracking": {} if tracking is None else tracking.details,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_text(run.folder / "run_manifest.json", text)
    write_text(run.home / "runs" / "latest.json", text)
    return manifest


def _summary(record: StageRecord | None) -> dict[str, Any]:
    return {} if record is None or record.artefact is None else read_manifest(record.artefact).summary


def _detail(record: StageRecord | None, name: str) -> int:
    return 0 if record is None else int(record.details.get(name, 0))


def _served(run: Run) -> str | None:
    try:
        pointer = FileSink(run.home).current()
    except MarqueeError:
        return None
    return None if pointer is None else pointer.generation
