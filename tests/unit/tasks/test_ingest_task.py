"""The ingest task, called as a function: what it emits, records and gives; and what it tries again."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from prefect.states import exception_to_failed_state

from recsys.artefacts import verify
from recsys.config import Config, SourceConfig
from recsys.errors import DownloadError, SourceError
from tasks.events import Event, Note, RowsDone, StageEnded, StageStarted, listening
from tasks.ingest import ingest, worth_another_try
from tasks.run import Run, stage_records


def run(tmp_path: Path, run_id: str = "one", **source) -> Run:
    return Run(
        run_id=run_id,
        run_date=date(2026, 1, 1),
        config=Config(home=tmp_path / "home", source=SourceConfig(**source)),
        started_at=datetime.now(UTC),
    )


def test_a_stage_that_gives_a_dataset_and_says_how_far_it_is(tmp_path: Path):
    (tmp_path / "r.csv").write_text("userId,movieId,rating,timestamp\n1,2,4,100\n1,3,5,200\nbroken\n")
    night = run(tmp_path, kind="files", ratings=str(tmp_path / "r.csv"))
    heard: list[Event] = []
    with listening(heard.append):
        ref = ingest.fn(night)
    assert ref.kind == "dataset"
    assert verify(ref).rows == {"ratings": 2, "titles": 0, "rejects": 1}
    assert isinstance(heard[0], StageStarted)
    assert isinstance(heard[-1], StageEnded)
    assert RowsDone("ingest", 2, 2) in heard
    assert Note("ingest", "reading r.csv") in heard
    (record,) = stage_records(night)
    assert (record.rows, record.reused, record.artefact) == (2, False, ref)
    assert record.details["rejected"] == 1


def test_a_second_run_reuses_it(tmp_path: Path):
    (tmp_path / "r.csv").write_text("userId,movieId,rating,timestamp\n1,2,4,100\n1,3,5,200\n")
    source = {"kind": "files", "ratings": str(tmp_path / "r.csv")}
    first = ingest.fn(run(tmp_path, "one", **source))
    second = run(tmp_path, "two", **source)
    assert ingest.fn(second) == first
    assert stage_records(second)[0].reused


def test_a_fault_of_the_source_is_recorded_and_raised(tmp_path: Path):
    night = run(tmp_path, kind="files", ratings=str(tmp_path / "none.csv"))
    with pytest.raises(SourceError, match="no file matches"):
        ingest.fn(night)
    assert "no file matches" in (stage_records(night)[0].error or "")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DownloadError("the server is away"), True),
        (ConnectionResetError(), True),
        (SourceError("the file is empty"), False),
        (ValueError("a fault of ours"), False),
    ],
)
def test_only_what_lies_outside_is_tried_again(error: Exception, again: bool):
    state = asyncio.run(exception_to_failed_state(error))
    assert worth_another_try(None, None, state) is again
