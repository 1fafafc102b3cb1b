"""The night: from the source's ratings to published lists.

Reads as a table of contents; what a step does is the business of ``tasks`` and ``recsys``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import parameters as form
from flows.engine import Steps, perform
from flows.logs import logged_only
from flows.report import leave_artifacts, night_figures
from flows.stopping import on_stop
from recsys.artefacts import ArtefactRef
from recsys.devices import available_cores
from recsys.errors import PublicationError
from tasks.autoencoder import train_autoencoder
from tasks.baselines import fit_baselines
from tasks.content import train_content_cnn
from tasks.export import audit_and_publish, recommend
from tasks.ingest import ingest
from tasks.manifest import write_run_manifest
from tasks.ncf import train_ncf
from tasks.refit import refit_winner
from tasks.registry import (
    close_night,
    current_champion,
    live_tracking,
    log_dataset_input,
    open_night,
    register_model,
)
from tasks.reports import log_models
from tasks.run import Run
from tasks.selection import decide, evaluate_candidates
from tasks.split import make_split
from tasks.trained import Trained
from tasks.validate import validate

BESIDE_EACH_OTHER: Any = ThreadPoolTaskRunner(max_workers=3)


@flow(name="nightly", task_runner=BESIDE_EACH_OTHER)
def nightly(
    config_file: form.ConfigFile = None,
    home: form.Home = None,
    run_date: form.RunDate = None,
    source: form.Source = None,
    n: form.ListLength = None,
    allow_row_change: bool = False,
    settings: form.Settings = {},  # noqa: B006 - Prefect copies it
) -> dict[str, Any]:
    """Bring what is new, prove that it fits, train, keep the better model, publish every user's list.

    Whatever is still valid from earlier nights is reused. If anything fails, what is served stays as it is.

    Args:
        config_file: A TOML file on the worker's machine; empty: that of `marquee up`, or the defaults.
        home: The directory that everything is written to; empty: as configured (./.marquee).
        run_date: The night that the lists are for, YYYY-MM-DD; empty: today (UTC).
        source: Where ratings come from; empty: as configured.
        n: Titles per user; empty: as configured (20).
        allow_row_change: Go on although the number of ratings changed by more than half since the last good night.
        settings: Any other settings, as {"section.key": value}, such as {"ncf.epochs": 10}.
    """
    config = form.config_of(
        config_file, home, settings, source__kind=source, export__n=n,
        validation__allow_row_change=allow_row_change or None,
    )  # fmt: skip
    return perform(night, config, date.fromisoformat(run_date) if run_date else None)


def night(run: Run, steps: Steps) -> dict[str, Any]:
    """The whole chain. Gives the run's manifest."""
    with tracked(run, steps) as night_run:
        validated = prepare(night_run, steps)
        decision = train(night_run, steps, validated)
        publication = publish(night_run, steps, validated, *to_serve(night_run))
        return conclude(night_run, steps, decision, publication)


def prepare(run: Run, steps: Steps) -> Any:
    """Source to validated dataset."""
    dataset = steps.call(ingest, run)
    return steps.call(validate, run, dataset)


def train(run: Run, steps: Steps, validated: Any) -> Any:
    """Validated dataset to a registered model, champion or not. Gives the decision."""
    steps.call(log_dataset_input, run, validated)
    split = steps.call(make_split, run, validated)
    trained = train_models(run, steps, split)
    evaluation = steps.call(evaluate_candidates, run, trained)
    steps.call(log_models, run, trained, evaluation)
    decision = steps.call(decide, run, trained, evaluation)
    model = steps.call(refit_winner, run, validated, trained, evaluation, decision)
    steps.call(register_model, run, model, decision)
    return decision


def train_models(run: Run, steps: Steps, split: Any) -> Trained:
    """The autoencoder beside the content CNN, the closed-form baselines as cores allow, then NCF over them."""
    with live_tracking(run) if run.tracking_run_id else nullcontext():
        autoencoder, content = steps.submit(train_autoencoder, run, split), steps.submit(train_content_cnn, run, split)
        if not _cores_to_spare(run):
            steps.gather(autoencoder, content)
        baselines = steps.submit(fit_baselines, run, split)
        towers = steps.gather(autoencoder, content, baselines)
        ncf = steps.call(train_ncf, run, split, *towers)
    autoencoder, content, baselines = towers
    return Trained(split=split, autoencoder=autoencoder, content=content, baselines=baselines, ncf=ncf)


def to_serve(run: Run) -> tuple[ArtefactRef, str]:
    """The champion's model and version: tonight's where it was promoted, else who it was before.

    Raises:
        PublicationError: no model may serve.
    """
    champion = current_champion(run)
    if champion.bundle is None or champion.version is None:
        raise PublicationError(
            "no model may serve: none was ever promoted",
            where=str(run.folder),
            remedy="the decision's reason is in the run's records; lower the gate's floors, or promote by hand",
        )
    return champion.bundle, champion.version.version


def publish(run: Run, steps: Steps, validated: Any, model: Any, version: Any) -> Any:
    """A model to the lists that are served."""
    lists = steps.call(recommend, run, validated, model, version)
    return steps.call(audit_and_publish, run, validated, lists)


def conclude(run: Run, steps: Steps, decision: Any, publication: Any) -> dict[str, Any]:
    """What the run came to, written down: its manifest, Prefect's pages, MLflow's figures."""
    manifest: dict[str, Any] = steps.call(write_run_manifest, run, decision=decision, publication=publication)
    leave_artifacts(manifest, steps)
    with logged_only("the run could not be closed in MLflow; what it published stands"):
        steps.call(close_night, run, "FINISHED", *night_figures(manifest))
    return manifest


@contextmanager
def tracked(run: Run, steps: Steps) -> Iterator[Run]:
    """The night's MLflow run, closed where the block fails or is told to stop. :func:`conclude` closes it well."""
    tracked_run = steps.call(open_night, run)
    try:
        with on_stop(lambda: close_night.fn(tracked_run, "KILLED")):
            yield tracked_run
    except BaseException as error:
        with logged_only("the failed run could not be written down"):
            steps.call(write_run_manifest, tracked_run, error=str(error) or type(error).__name__)
        with logged_only("the failed run could not be closed in MLflow"):
            steps.call(close_night, tracked_run, "FAILED")
        raise


def _cores_to_spare(run: Run) -> bool:
    """Whether a third trainer has a core beside the two networks'."""
    return (run.config.compute.threads or available_cores()) > 2
