"""What a stage's record says, and what the run's manifest makes of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys.config import Config
from tasks.manifest import write_run_manifest
from tasks.run import Run, StageRecord, stage, stage_records

COST = {"seconds": 12.5, "peak_rss_bytes": 400_000_000}


def night(home: Path) -> Run:
    return Run(run_id="r", run_date=date(2026, 1, 1), config=Config(home=home), started_at=datetime.now(UTC))


def test_a_stage_says_what_it_took(tmp_path: Path) -> None:
    run = night(tmp_path)
    with stage(run, "one") as record:
        record.rows, record.peak_rss_bytes = 500, 1 << 50
        sum(range(3_000_000))
    with stage(run, "two"):
        pass
    one, two = stage_records(run)
    assert one.peak_rss_bytes == 1 << 50, "what a child said of itself may be more than was seen of all"
    assert 10 << 20 < two.peak_rss_bytes < 1 << 40
    assert one.cpu_seconds > 0
    assert one.rows_per_second == round(500 / one.seconds, 1)
    assert (one.cost, two.cost, two.rows_per_second) == (None, None, None)


def test_what_an_artefact_took_is_known_where_it_is_reused(tmp_path: Path) -> None:
    run = night(tmp_path)
    for reused in (False, True):
        with stage(run, "made") as record:
            record.reused, record.rows = reused, 4
            with run.store.create("split", {}, {}) as (draft, record.artefact):
                draft.summary["cost"] = COST
        (kept,) = stage_records(run)
        assert kept.cost == COST
        assert (kept.rows_per_second is None) is reused


def test_a_stage_that_failed_is_measured_and_costs_nothing(tmp_path: Path) -> None:
    run = night(tmp_path)
    with run.store.create("split", {}, {}) as (draft, made):
        draft.summary["cost"] = COST

    def fails() -> None:
        with stage(run, "bad") as record:
            record.artefact = made
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fails()
    (kept,) = stage_records(run)
    assert (kept.error, kept.cost) == ("boom", None)
    assert kept.peak_rss_bytes > 10 << 20


def test_the_manifest_has_every_stage_and_the_most_memory(tmp_path: Path) -> None:
    run = night(tmp_path)
    for name, peak in (("a", 1 << 45), ("b", 1 << 46), ("c", 0)):
        with stage(run, name) as record:
            record.rows, record.peak_rss_bytes = 10, peak
    manifest = write_run_manifest.fn(run)
    assert manifest["peak_rss_bytes"] == 1 << 46
    assert json.loads((run.folder / "run_manifest.json").read_text()) == manifest
    for told in manifest["stages"]:
        assert told.pop("rows_per_second") == StageRecord.model_validate(told).rows_per_second
    assert write_run_manifest.fn(night(tmp_path / "other"))["peak_rss_bytes"] == 0
