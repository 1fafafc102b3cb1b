"""The ingest step: a configured source becomes a dataset artefact."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from recsys.artefacts import ArtefactRef, read_manifest
from recsys.data.ingest import Ingested
from recsys.data.ingest import ingest as ingest_source
from recsys.errors import DownloadError
from recsys.remote_artefacts import RemoteArtefacts
from tasks.engines import reader_of_files
from tasks.events import Note, RowsDone, emit
from tasks.run import Run, StageRecord, stage

STAGE = "ingest"
_HOURS = 3_600


def worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may go away by itself: only what lies outside does."""
    try:
        state.result()
    except (DownloadError, ConnectionError, TimeoutError):
        return True
    except BaseException:  # whatever else it was, the same again would fail the same way
        return False
    return False


@task(
    name=STAGE,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
    timeout_seconds=4 * _HOURS,
    cache_policy=NO_CACHE,
)
def ingest(run: Run) -> ArtefactRef:
    """Bring the source's ratings and titles into a dataset artefact.

    Raises:
        ConfigError: the configuration names no source.
        SourceError: a file is missing, empty, damaged or lacks a column.
        DownloadError: the data cannot be brought, after several tries.
        StorageError: the object storage cannot be reached.
    """
    with stage(run, STAGE) as record:
        done = ingest_source(
            run.config.source,
            run.home,
            note=lambda text: emit(Note(STAGE, text)),
            progress=lambda rows, total: emit(RowsDone(STAGE, rows, total)),
            threads=run.config.compute.threads,
            mirror=RemoteArtefacts.of(run.config.storage),
            reader=reader_of_files(run.config.compute),
        )
        _fill(record, done)
    return done.dataset


def _fill(record: StageRecord, done: Ingested) -> None:
    origin = read_manifest(done.source).summary
    record.rows = done.rows
    record.reused = done.reused
    record.artefact = done.dataset
    record.details = {
        "rejected": done.rejected,
        "kept_rows": done.kept_rows,
        "kept_bytes": done.kept_bytes,
        "parsed_bytes": done.parsed_bytes,
        "source": done.source.digest,
        "provenance": origin["provenance"]["name"],
        "licence": origin["licence"],
        "citation": origin["citation"],
    }
