"""The night's models as MLflow shows them: one report per model, from what training and evaluation left."""

from __future__ import annotations

import json
from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, read_manifest, verified_file
from tasks.registry import ModelReport, log_model_runs
from tasks.run import Run
from tasks.trained import AUTOENCODER, NCF, Trained


@task(name="log-models")
def log_models(run: Run, trained: Trained, evaluation: ArtefactRef) -> dict[str, str]:
    """Log every model's settings, curves and figures as nested runs of the night. Gives their MLflow ids by name."""
    return log_model_runs.fn(run, model_reports(trained, read_manifest(evaluation).summary["metrics"]))


def model_reports(trained: Trained, metrics: dict[str, dict[str, float]]) -> list[ModelReport]:
    """One report per model. ``metrics`` are the test figures by candidate."""
    reports = [
        ModelReport(
            name=name,
            params=facts["params"],
            metrics={**_prefixed("validation_", facts["validation"]), **metrics.get(name, {})},
            artefact=trained.baselines,
        )
        for name, facts in trained.tuned().items()
    ]
    neural = {AUTOENCODER: trained.autoencoder, "content_cnn": trained.content, NCF: trained.ncf}
    files = {AUTOENCODER: "autoencoder.json", "content_cnn": "content.json", NCF: "ncf.json"}
    for name, ref in neural.items():
        if ref is not None:
            told = json.loads(verified_file(ref, files[name]).read_text())
            figures = {**told.get("figures", {}), **metrics.get(name, {})}
            reports.append(
                ModelReport(name=name, params=told["settings"], metrics=figures, epochs=_curve(told), artefact=ref)
            )
    return reports


def _prefixed(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in figures.items()}


def _curve(told: dict[str, Any]) -> list[dict[str, float]]:
    """The epochs of the first copy: the one that validation watched."""
    curve: list[dict[str, float]] = told["curve"] if "curve" in told else told["train"]["curve"]
    return curve
