"""The night's steps that speak with MLflow, and what the command line asks of it.

In the order a night calls them::

    run = open_night(run)                            # one parent run a night; runs of dead processes are closed
    with live_tracking(run): …train…                 # epochs as they end (optional)
    log_dataset_input(run, validated)                # what it learns from
    log_model_runs(run, [ModelReport(…), …])         # one nested run per model, whole
    serving = current_champion(run)                  # what the challenger is compared with, verified
    version = register_model(run, model, verdict)    # version and aliases; gives its number
    close_night(run, "FINISHED", metrics, tags)

Each may be called again with the same arguments: nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from prefect import task
from pydantic import BaseModel

from recsys.artefacts import ArtefactRef
from recsys.config import Config
from recsys.errors import RegistryError, UsageError
from tasks.events import Note, emit
from tasks.registry.compare import VersionComparison, compare
from tasks.registry.connection import Registry, connect
from tasks.registry.gate import decision_figures, decision_tags
from tasks.registry.promotion import Champion, Verdict, champion, promote, register, roll_back
from tasks.registry.runs import (
    ModelReport,
    NightSummary,
    close_dead_runs,
    finish,
    finish_models,
    list_nights,
    log,
    log_dataset,
    log_report,
    start_night,
)
from tasks.registry.tracker import live
from tasks.registry.versions import VersionInfo, find_version
from tasks.run import Run, stage

Status = Literal["FINISHED", "FAILED", "KILLED"]


@task(name="open night")
def open_night(run: Run) -> Run:
    """Open the night's MLflow run, and close those that dead processes left. Gives the run with its MLflow id.

    Raises:
        RegistryError: MLflow does not answer within seconds. Nothing has been done yet.
    """
    with stage(run, "tracking") as record:
        registry = connect(run.config)
        dead = close_dead_runs(registry)
        if dead:
            emit(Note("tracking", f"{len(dead)} runs of processes that are gone were marked KILLED"))
        tracking_run_id = start_night(registry, run)
        record.details = {"closed": len(dead), **where(registry, tracking_run_id)}
        return run.model_copy(update={"tracking_run_id": tracking_run_id})


@contextmanager
def live_tracking(run: Run) -> Iterator[None]:
    """For the length of the block, write epochs to MLflow as stages emit them. Failing to do so stops nothing."""
    with live(connect(run.config), run, _parent(run)):
        yield


@task(name="log data set")
def log_dataset_input(run: Run, validated: ArtefactRef) -> None:
    """Name the validated data in the night's run: digest, size, licence."""
    log_dataset(connect(run.config), _parent(run), validated)


@task(name="log models")
def log_model_runs(run: Run, reports: Sequence[ModelReport]) -> dict[str, str]:
    """One nested run per model: parameters, epochs, curves, test figures. Gives their MLflow ids by name."""
    registry = connect(run.config)
    return {report.name: log_report(registry, run, _parent(run), report) for report in reports}


def current_champion(run: Run) -> Champion:
    """What serves now, verified, on this machine; its note, if it has one, is an alarm and is told."""
    found = champion(connect(run.config))
    if found.note:
        emit(Note("registry", found.note))
    return found


@task(name="register")
def register_model(run: Run, model: ArtefactRef, verdict: Verdict | Mapping[str, Any] | str) -> str:
    """Register a bundle and move the aliases as the gate decided. Gives the version's number.

    Args:
        run: the night, opened.
        model: the ``model`` artefact.
        verdict: ``promote``, ``reason``, and ``against``: the version of the champion it was compared with
            (:attr:`Champion.version`, None where there was none); as a model, a mapping or JSON.

    Raises:
        ArtefactError: the bundle is damaged.
        RegistryError: MLflow does not answer. The champion is as it was.
    """
    with stage(run, "register") as record:
        registry, parent, decided = connect(run.config), _parent(run), _verdict(verdict)
        figures = decided.model_dump()
        with registry.doing("logging the decision"):
            log(registry, parent, metrics=decision_figures(figures), tags=decision_tags(figures))
        info = register(registry, run.run_id, parent, model, decided)
        record.artefact, record.reused = model, info.run_id != run.run_id
        record.details = info.model_dump(mode="json")
        return info.version


def _verdict(value: Verdict | Mapping[str, Any] | BaseModel | str) -> Verdict:
    if isinstance(value, str):
        return Verdict.model_validate_json(value)
    return Verdict.model_validate(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)


@task(name="close night")
def close_night(
    run: Run,
    status: Status,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log the night's last figures, and end its run and whatever nested run is still open."""
    if run.tracking_run_id is None:
        return
    registry = connect(run.config)
    finish(registry, run.tracking_run_id, status, metrics=metrics, tags=tags)
    finish_models(registry, run, status)


def version_to_serve(run: Run, model: ArtefactRef) -> str:
    """The version's number of a bundle that is to be exported by hand.

    Raises:
        UsageError: it was never registered, so no gate has seen it.
    """
    registry = connect(run.config)
    with registry.doing("looking for the model's version"):
        version = find_version(registry, model.digest)
    if version is None:
        raise UsageError(
            f"the model {model.digest} is not registered, so no gate has seen it",
            where=registry.shown,
            remedy="run `marquee train`, or name a registered model's digest",
        )
    serving = champion(registry).version
    if serving is not None and serving.version != version:
        emit(Note("registry", f"version {version} is not the champion (version {serving.version} is)"))
    return version


def past_runs(config: Config, limit: int = 20) -> list[NightSummary]:
    """The newest nights and their figures, newest first."""
    return list_nights(connect(config), limit)


def compare_versions(config: Config, a: str, b: str) -> VersionComparison:
    """Two versions (numbers or aliases) side by side, with the interval of their difference.

    Raises:
        UsageError: there is no such version.
    """
    return compare(connect(config), a, b, config.gate)


def promote_version(config: Config, version: str) -> VersionInfo:
    """Make a version (a number or an alias) the champion; who was champion becomes ``previous``."""
    return promote(connect(config), version)


def rollback_champion(config: Config) -> VersionInfo:
    """Make ``previous`` the champion again."""
    return roll_back(connect(config))


def where(registry: Registry, tracking_run_id: str) -> dict[str, str]:
    """A run's id, and its page where there is a server."""
    found = {"run_id": tracking_run_id, "experiment_id": registry.experiment_id, "uri": registry.shown}
    if registry.uri.startswith("http"):
        found["url"] = f"{registry.shown.rstrip('/')}/#/experiments/{registry.experiment_id}/runs/{tracking_run_id}"
    return found


def _parent(run: Run) -> str:
    if run.tracking_run_id is None:
        raise RegistryError("the night's run is not open", remedy="call open_night first and use the run that it gives")
    return run.tracking_run_id
