"""Runs in MLflow: one parent a night, one nested run per model, and none left RUNNING by the dead."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from recsys.artefacts import ArtefactRef, canonical_json, code_version, read_manifest
from tasks.registry.connection import Registry
from tasks.registry.curves import curves_svg
from tasks.registry.gate import GateSummary, read_decision
from tasks.run import Run

RUN_ID, RUN_DATE, KIND, MODEL = "marquee.run_id", "marquee.run_date", "marquee.kind", "marquee.model"
DATASET, CODE, LICENCE = "marquee.dataset", "marquee.code_version", "marquee.licence"
PID, HOST, STARTED, EPOCHS = "marquee.pid", "marquee.host", "marquee.process_started", "marquee.epochs"
LOST_AFTER = 48 * 3600.0
"""Seconds after which another machine's run that still says RUNNING is taken to be dead: no night lasts that long."""
_BATCH = 900  # MLflow takes 1000 metrics or 100 parameters a request
_SECTIONS = ("ratings", "validation", "split", "autoencoder", "content", "ncf", "baselines", "gate", "export")


class ModelReport(BaseModel):
    """What is kept of one model of a night."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """user_autoencoder, content_cnn, ncf, or a baseline's name."""
    params: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    """Its figures on the test window."""
    epochs: list[dict[str, float]] = Field(default_factory=list)
    """Figures per epoch, from the first."""
    artefact: ArtefactRef | None = None


class NightSummary(BaseModel):
    """A past night."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    tracking_run_id: str
    run_date: str
    status: str
    started_at: datetime
    seconds: float | None
    metrics: dict[str, float]
    tags: dict[str, str]
    decision: GateSummary | None = None
    """What the gate decided, if the night came that far."""


def start_night(registry: Registry, run: Run) -> str:
    """The night's parent run: opened, or opened again where a killed process left it. Gives its MLflow id."""
    with registry.doing("opening the night's run"):
        found = _find(registry, run.run_id, "night")
        tags = {**process_tags(), RUN_DATE: run.run_date.isoformat(), CODE: code_version()}
        if found is not None:
            run_id = str(found.info.run_id)
            log(registry, run_id, tags=tags)
            registry.client.update_run(run_id, status="RUNNING")
            return run_id
        tags |= {RUN_ID: run.run_id, KIND: "night", "mlflow.runName": run.run_id, "mlflow.source.name": "marquee"}
        created = registry.client.create_run(registry.experiment_id, start_time=_millis(run.started_at), tags=tags)
        run_id = str(created.info.run_id)
        log(registry, run_id, params={"seed": run.config.seed, "source.kind": run.config.source.kind, **_settings(run)})
        return run_id


def _settings(run: Run) -> dict[str, Any]:
    """The sections that shape a model. Addresses and paths are left out: they may hold secrets."""
    values = run.config.model_dump(mode="json", include=set(_SECTIONS))
    return {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}


def log_dataset(registry: Registry, tracking_run_id: str, dataset: ArtefactRef) -> None:
    """Name the data that a night learns from: digest, size, licence, as MLflow's dataset input and as tags."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    manifest = read_manifest(dataset)
    facts = {key: manifest.summary.get(key) for key in ("licence", "citation", "users", "items", "provenance")}
    entity = Dataset(
        name=f"marquee-{dataset.kind}",
        digest=dataset.digest[:36],
        source_type="local",
        source=canonical_json({"kind": dataset.kind, "digest": dataset.digest}),
        profile=canonical_json({"rows": manifest.rows, **{k: v for k, v in facts.items() if v is not None}})[:16_000],
    )
    with registry.doing("logging the data set"):
        known = registry.client.get_run(tracking_run_id).inputs.dataset_inputs
        if all(entry.dataset.digest != entity.digest for entry in known):
            tags = [InputTag(key="mlflow.data.context", value="training")]
            registry.client.log_inputs(tracking_run_id, [DatasetInput(dataset=entity, tags=tags)])
        log(registry, tracking_run_id, tags={DATASET: dataset.digest, LICENCE: str(facts["licence"] or "not stated")})


def finish(
    registry: Registry,
    tracking_run_id: str,
    status: str,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log the last figures and end a run: FINISHED, FAILED or KILLED."""
    with registry.doing("ending the run"):
        log(registry, tracking_run_id, metrics=metrics, tags=tags)
        registry.client.set_terminated(tracking_run_id, status=status)


def finish_models(registry: Registry, run: Run, status: str) -> None:
    """End the night's nested runs that are still open."""
    with registry.doing("ending the models' runs"):
        terms = f"tags.`{RUN_ID}` = {_quoted(run.run_id)} and attributes.status = 'RUNNING'"
        for entry in registry.client.search_runs([registry.experiment_id], terms):
            registry.client.set_terminated(entry.info.run_id, status=status)


def model_run(registry: Registry, run: Run, parent: str, name: str) -> str:
    """The nested run of a model of this night: found, or made. Gives its MLflow id."""
    found = _find(registry, run.run_id, "model", name)
    if found is not None:
        return str(found.info.run_id)
    tags = {
        **process_tags(),
        RUN_ID: run.run_id,
        RUN_DATE: run.run_date.isoformat(),
        KIND: "model",
        MODEL: name,
        "mlflow.parentRunId": parent,
        "mlflow.runName": name,
    }
    return str(registry.client.create_run(registry.experiment_id, tags=tags).info.run_id)


def log_report(registry: Registry, run: Run, parent: str, report: ModelReport) -> str:
    """Log a model whole: parameters, epochs, curves, figures. Again is harmless. Gives its MLflow id."""
    with registry.doing(f"logging {report.name}"):
        run_id = model_run(registry, run, parent, report.name)
        logged = registry.client.get_run(run_id).data
        params = {key: value for key, value in report.params.items() if key not in logged.params}
        log(registry, run_id, params=params, metrics=report.metrics)
        if logged.tags.get(EPOCHS) != str(len(report.epochs)):
            known = int(logged.tags.get(EPOCHS, "0"))
            log_epochs(registry, run_id, dict(enumerate(report.epochs[known:], start=known + 1)))
        if report.epochs:
            registry.client.log_text(run_id, curves_svg(report.name, report.epochs), "curves.svg")
        if report.artefact is not None:
            log(registry, run_id, tags={"marquee.artefact": f"{report.artefact.kind}/{report.artefact.digest}"})
        registry.client.set_terminated(run_id, status="FINISHED")
        return run_id


def log_epochs(registry: Registry, run_id: str, epochs: Mapping[int, Mapping[str, float]]) -> None:
    """Log figures by epoch number, and how far they have come."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = [
        Metric(_key(name), float(value), now, number)
        for number, figures in epochs.items()
        for name, value in figures.items()
        if math.isfinite(value)
    ]
    for start in range(0, len(rows), _BATCH):
        registry.client.log_batch(run_id, metrics=rows[start : start + _BATCH])
    if epochs:
        log(registry, run_id, tags={EPOCHS: str(max(epochs))})


def log(
    registry: Registry,
    run_id: str,
    *,
    params: Mapping[str, object] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log in as few requests as there may be. Undefined (not finite) figures are left out, never zero."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    rows = [Metric(_key(n), float(v), now, 0) for n, v in (metrics or {}).items() if math.isfinite(v)]
    settings = [Param(_key(name), _text(value)) for name, value in (params or {}).items()]
    for start in range(0, max(len(rows), len(settings)), 90):
        registry.client.log_batch(
            run_id, metrics=rows[start : start + 90], params=settings[start : start + 90], synchronous=True
        )
    if tags:
        registry.client.log_batch(run_id, tags=[RunTag(name, value[:5_000]) for name, value in tags.items()])


def _key(name: str) -> str:
    return re.sub(r"[^\w./ -]", "_", name)


def _text(value: object) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text[:6_000]


def close_dead_runs(registry: Registry) -> list[str]:
    """Mark RUNNING runs of processes that are gone as KILLED; gives their MLflow ids.

    On this machine a process is asked for by number and start time; a run of another machine counts as dead after
    :data:`LOST_AFTER`.
    """
    with registry.doing("closing runs of dead processes"):
        running = registry.client.search_runs(
            [registry.experiment_id], "attributes.status = 'RUNNING'", max_results=500
        )
        dead = [str(entry.info.run_id) for entry in running if _is_dead(entry)]
        for run_id in dead:
            registry.client.set_terminated(run_id, status="KILLED")
        return dead


def _is_dead(entry: Any) -> bool:
    tags = entry.data.tags
    if PID not in tags:
        return False  # not ours
    if tags.get(HOST) != socket.gethostname():
        return bool(time.time() - entry.info.start_time / 1000 > LOST_AFTER)
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - float(tags[STARTED])) < 2
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def process_tags() -> dict[str, str]:
    """Who writes to a run, so that its death can be told."""
    started = psutil.Process().create_time()
    return {PID: str(os.getpid()), HOST: socket.gethostname(), STARTED: repr(started)}


def list_nights(registry: Registry, limit: int = 20) -> list[NightSummary]:
    """The newest nights, newest first."""
    with registry.doing("reading past runs"):
        found = registry.client.search_runs(
            [registry.experiment_id],
            f"tags.`{KIND}` = 'night'",
            max_results=limit,
            order_by=["attributes.start_time DESC"],
        )
    return [_night(entry) for entry in found]


def _night(entry: Any) -> NightSummary:
    info, tags = entry.info, entry.data.tags
    return NightSummary(
        run_id=tags[RUN_ID],
        tracking_run_id=info.run_id,
        run_date=tags.get(RUN_DATE, ""),
        status=info.status,
        started_at=datetime.fromtimestamp(info.start_time / 1000, UTC),
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
        metrics=dict(entry.data.metrics),
        tags={key: value for key, value in tags.items() if not key.startswith("mlflow.")},
        decision=read_decision(tags),
    )


def _find(registry: Registry, run_id: str, kind: str, model: str | None = None) -> Any | None:
    terms = [f"tags.`{RUN_ID}` = {_quoted(run_id)}", f"tags.`{KIND}` = '{kind}'"]
    if model is not None:
        terms.append(f"tags.`{MODEL}` = {_quoted(model)}")
    found: Sequence[Any] = registry.client.search_runs([registry.experiment_id], " and ".join(terms), max_results=1)
    return next(iter(found), None)


def _quoted(text: str) -> str:
    if not re.fullmatch(r"[\w.:+@ -]+", text):
        raise ValueError(f"{text!r} cannot be searched for")
    return f"'{text}'"


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
