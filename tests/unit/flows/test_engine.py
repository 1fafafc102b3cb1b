"""A chain carried out: under the lock, logged, with Prefect's failures told from the run's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import task

from flows.engine import Outcome, PlainSteps, Steps, launch, perform, unwrapped
from recsys import lock
from recsys.config import Config
from recsys.errors import LockHeldError, TrainingError
from tasks.run import Run, stage


@task
def count(run: Run, *numbers: int) -> int:
    """Add up, as a stage of its own."""
    with stage(run, "count") as record:
        record.rows = sum(numbers)
        return record.rows


@task
def meet(_run: Run, barrier: threading.Barrier) -> int:
    """Return only when somebody else is here too."""
    return barrier.wait(10)


@task
def break_down(_run: Run) -> int:
    """Fail as a trainer does."""
    raise TrainingError("the trainer was killed", where="log.txt", remedy="run again")


class Flow:
    """A flow as the engine sees it: called, Prefect is around it; through ``fn`` it is not."""

    def __init__(self, config: Config, chain: Any, before: Exception | None = None, after: Exception | None = None):
        self.config, self.chain, self.before, self.after = config, chain, before, after
        self.calls: list[str] = []

    def __call__(self) -> Any:
        self.calls.append("prefect")
        if self.before:
            raise self.before
        result = perform(self.chain, self.config)
        if self.after:
            raise self.after
        return result

    def fn(self) -> Any:
        self.calls.append("plain")
        return perform(self.chain, self.config)


def add(run: Run, steps: Steps) -> dict[str, Any]:
    """Two steps beside each other, one after them."""
    beside = steps.submit(count, run, 1, 2), steps.submit(count, run, 3)
    return {"sum": steps.call(count, run, *steps.gather(*beside))}


def fail(run: Run, steps: Steps) -> dict[str, Any]:
    """One of two steps fails."""
    steps.gather(steps.submit(break_down, run), steps.submit(count, run, 1))
    raise AssertionError("gather raises")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path)


def test_a_chain_runs_without_prefect_and_is_written_down(config: Config) -> None:
    assert perform(add, config) == {"sum": 6}
    (folder,) = (config.home / "runs").iterdir()
    log = (folder / "log.txt").read_text()
    assert "count: started" in log
    assert "6 rows" in log
    assert (folder / "stages" / "count.json").is_file()
    assert lock.holder_of(config.home) is None


def test_submitted_steps_run_at_the_same_time(config: Config) -> None:
    barrier = threading.Barrier(2)

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        arrived = steps.gather(steps.submit(meet, run, barrier), steps.submit(meet, run, barrier))
        return {"arrived": sorted(arrived)}

    assert perform(chain, config) == {"arrived": [0, 1]}


def test_one_that_fails_does_not_keep_the_other_from_finishing(config: Config) -> None:
    with pytest.raises(TrainingError, match="the trainer was killed"):
        perform(fail, config)
    (folder,) = (config.home / "runs").iterdir()
    assert (folder / "stages" / "count.json").is_file()
    log = (folder / "log.txt").read_text()
    assert "Traceback" in log
    assert "the trainer was killed" in log
    assert lock.holder_of(config.home) is None


def test_a_run_that_is_refused_the_lock_leaves_no_record(config: Config) -> None:
    with lock.hold(config.home, "other"), pytest.raises(LockHeldError, match="already held by run other"):
        perform(add, config)
    assert not (config.home / "runs").exists()


def test_prefect_that_cannot_be_reached_is_done_without(config: Config) -> None:
    flow = Flow(config, add, before=httpx.ConnectError("refused"))
    outcome = launch(flow, {})
    assert flow.calls == ["prefect", "plain"]
    assert outcome.result == {"sum": 6}
    assert outcome.note is not None
    assert "Prefect could not be used" in outcome.note
    assert "refused" in outcome.note


def test_prefect_that_fails_after_the_work_changes_nothing(config: Config) -> None:
    flow = Flow(config, add, after=httpx.ConnectError("gone"))
    outcome = launch(flow, {})
    assert flow.calls == ["prefect"]
    assert outcome.result == {"sum": 6}
    assert "after the work was done" in str(outcome.note)


def test_prefect_that_fails_amid_the_work_is_done_without_the_second_time(config: Config) -> None:
    broken = iter([True, False])

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        if next(broken):
            raise httpx.ReadError("the server went away")
        return add(run, steps)

    flow = Flow(config, chain)
    assert launch(flow, {}).result == {"sum": 6}
    assert flow.calls == ["prefect", "plain"]


def test_a_failure_of_the_run_is_not_taken_for_prefects(config: Config) -> None:
    flow = Flow(config, fail)
    with pytest.raises(TrainingError):
        launch(flow, {})
    assert flow.calls == ["prefect"]


def test_a_held_lock_is_told_as_such(config: Config) -> None:
    flow = Flow(config, add)
    with lock.hold(config.home, "other"), pytest.raises(LockHeldError):
        launch(flow, {})
    assert flow.calls == ["prefect"]


def test_a_server_known_to_be_down_is_not_tried(config: Config) -> None:
    flow = Flow(config, add)
    outcome = launch(flow, {}, without_prefect="The Prefect server at http://x does not answer")
    assert flow.calls == ["plain"]
    assert str(outcome.note).startswith("The Prefect server at http://x does not answer")


def test_our_errors_are_found_inside_what_wraps_them() -> None:
    ours = TrainingError("loss is not finite")
    wrapped = RuntimeError("task crashed")
    wrapped.__cause__ = ours
    twice = ValueError("flow crashed")
    twice.__context__ = wrapped
    assert unwrapped(twice) is ours
    plain = ValueError("x")
    assert unwrapped(plain) is plain


def test_an_outcome_says_where_its_log_is(config: Config) -> None:
    seen: list[Run] = []

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        assert isinstance(steps, PlainSteps)
        seen.append(run)
        return {}

    outcome = launch(Flow(config, chain), {}, without_prefect="no")
    assert isinstance(outcome, Outcome)
    assert outcome.run == seen[0]
    assert outcome.log.is_file()
