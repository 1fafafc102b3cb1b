"""A dry run on real steps: says what is there and what would have to be made, and makes nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from flows.engine import PlainSteps, perform
from flows.nightly import prepare
from flows.parts import found, ingesting, made
from flows.plan import plan_of
from recsys.config import Config, SourceConfig
from recsys.errors import UsageError
from tasks.run import Run

STEPS = [
    *("ingest", "validate", "log data set", "split", "user_autoencoder", "content_cnn", "baselines", "ncf", "evaluate"),
    *("log-models", "decide", "refit", "register", "recommend", "publish"),
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    source = SourceConfig(kind="synthetic", users=30, items=40, interactions=700)
    return Config(home=tmp_path / "home", source=source)


def _plan(config: Config) -> dict[str, str]:
    return {step.step: step.plan for step in plan_of(config, date(2026, 11, 24))}


def test_the_plan_follows_what_is_there(config: Config) -> None:
    fresh = _plan(config)
    assert list(fresh) == STEPS
    assert fresh["ingest"] == "would run"
    assert fresh["validate"] == "would run, unless its inputs come out as before"
    assert not config.home.exists()

    def only_data(run: Run, steps: PlainSteps) -> dict[str, object]:
        return made(prepare(run, steps))

    perform(only_data, config)
    later = _plan(config)
    assert (later["ingest"], later["validate"]) == ("reused", "reused")
    assert later["split"] == "would run"
    assert later["decide"] == "always done"


def test_a_part_starts_from_the_latest_artefact_or_a_named_one(config: Config) -> None:
    runs: list[Run] = []

    def chain(run: Run, steps: PlainSteps) -> dict[str, object]:
        runs.append(run)
        return ingesting(run, steps)

    with pytest.raises(UsageError, match="there is no dataset artefact yet"):
        perform(lambda run, _: made(found(run, "dataset", None, "ingest")), config)
    digest = perform(chain, config)["digest"]
    (run,) = runs
    assert found(run, "dataset", None, "ingest").digest == digest
    assert found(run, "dataset", digest[:6], "ingest").digest == digest
    with pytest.raises(UsageError, match="no artefact begins with ffff"):
        found(run, "dataset", "ffff", "ingest")
