"""A run: its identity, where its records lie, and the stages it went through.

Every task takes the run first, then references. Each stage writes ``runs/<run_id>/stages/<stage>.json``, from which
the run's manifest is put together: a record survives whatever happens to the process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recsys.artefacts import ArtefactRef, ArtefactStore, read_manifest, write_text
from recsys.config import Config
from recsys.remote_artefacts import RemoteArtefacts
from recsys.usage import Usage, measured
from tasks.events import StageEnded, StageStarted, emit


class Run(BaseModel):
    """One night (or one part of it, by hand)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    run_date: date
    config: Config
    started_at: datetime
    tracking_run_id: str | None = None
    """The night's MLflow run, once it exists."""

    @property
    def home(self) -> Path:
        """Everything that a run writes lies under it."""
        return self.config.home

    @property
    def store(self) -> ArtefactStore:
        """The artefacts."""
        return ArtefactStore(self.home, RemoteArtefacts.of(self.config.storage))

    @property
    def folder(self) -> Path:
        """The run's own records."""
        return self.home / "runs" / self.run_id


class StageRecord(BaseModel):
    """What one stage did."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    started_at: datetime
    seconds: float = 0.0
    rows: int | None = None
    reused: bool = False
    peak_rss_bytes: int = 0
    """The most memory that all processes of the run together held while the stage ran; beside another one, both's."""
    cpu_seconds: float = 0.0
    """Processor time of all processes of the run while the stage ran."""
    cost: dict[str, float] | None = None
    """What the artefact took when it was made, in the process of its trainer: ``seconds``, ``peak_rss_bytes``. A stage
    that found it made has this too; None where it was not written down."""
    artefact: ArtefactRef | None = None
    error: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def rows_per_second(self) -> float | None:
        """None where there are no rows, or they were there already."""
        return None if self.reused or not self.rows else round(self.rows / max(self.seconds, 1e-3), 1)


@contextmanager
def stage(run: Run, name: str) -> Iterator[StageRecord]:
    """Time a stage, tell the listeners, and record what the block fills in."""
    record, usage = StageRecord(stage=name, started_at=datetime.now(UTC)), Usage()
    emit(StageStarted(name))
    began = time.monotonic()
    try:
        with measured(usage):
            yield record
    except BaseException as error:
        record.error = str(error) or type(error).__name__
        raise
    finally:
        record.seconds = round(time.monotonic() - began, 3)
        record.peak_rss_bytes = max(record.peak_rss_bytes, usage.peak_bytes)
        record.cpu_seconds = round(usage.cpu_seconds, 2)
        record.cost = _cost(record)
        write_text(run.folder / "stages" / f"{name}.json", record.model_dump_json(indent=1) + "\n")
        emit(StageEnded(name, record.seconds, record.rows, record.reused, record.error))


def _cost(record: StageRecord) -> dict[str, float] | None:
    if record.artefact is None or record.error is not None:
        return None
    cost: dict[str, float] | None = read_manifest(record.artefact).summary.get("cost")
    return cost


def stage_records(run: Run) -> list[StageRecord]:
    """The stages so far, in the order they began."""
    files = sorted((run.folder / "stages").glob("*.json"))
    return sorted((StageRecord.model_validate_json(f.read_bytes()) for f in files), key=lambda r: r.started_at)
