"""The night's parts as flows of their own, to run by hand: each on the latest artefact, or on a named one."""

from __future__ import annotations

from datetime import date
from typing import Any

from prefect import flow

from flows import nightly as whole
from flows import parameters as form
from flows.engine import Chain, Steps, perform
from recsys.artefacts import ArtefactRef, read_manifest
from recsys.errors import UsageError
from tasks.ingest import ingest as ingest_task
from tasks.registry import version_to_serve
from tasks.run import Run
from tasks.validate import validate as validate_task


@flow(name="ingest")
def ingest(
    config_file: form.ConfigFile = None,
    home: form.Home = None,
    source: form.Source = None,
    settings: form.Settings = {},  # noqa: B006
) -> dict[str, Any]:
    """Bring the source's ratings and titles into one dataset.

    Args:
        config_file: A TOML file on the worker's machine; empty: that of `marquee up`, or the defaults.
        home: The directory that everything is written to; empty: as configured (./.marquee).
        source: Where ratings come from; empty: as configured.
        settings: Any other settings, as {"section.key": value}, such as {"ncf.epochs": 10}.
    """
    return perform(ingesting, form.config_of(config_file, home, settings, source__kind=source))


@flow(name="validate")
def validate(
    config_file: form.ConfigFile = None,
    home: form.Home = None,
    dataset: form.Digest = None,
    allow_row_change: bool = False,
    settings: form.Settings = {},  # noqa: B006
) -> dict[str, Any]:
    """Prove that a dataset fits: put bad rows aside, and say so in a report.

    Args:
        config_file: A TOML file on the worker's machine; empty: that of `marquee up`, or the defaults.
        home: The directory that everything is written to; empty: as configured (./.marquee).
        dataset: The digest of the dataset to check, or its start; empty: the latest.
        allow_row_change: Go on although the number of ratings changed by more than half since the last good night.
        settings: Any other settings, as {"section.key": value}, such as {"ncf.epochs": 10}.
    """
    config = form.config_of(config_file, home, settings, validation__allow_row_change=allow_row_change or None)
    return perform(validating(dataset), config)


@flow(name="train", task_runner=whole.BESIDE_EACH_OTHER)
def train(
    config_file: form.ConfigFile = None,
    home: form.Home = None,
    validated: form.Digest = None,
    settings: form.Settings = {},  # noqa: B006
) -> dict[str, Any]:
    """Train every model on a validated dataset, decide, and register the winner. Publishes nothing.

    Args:
        config_file: A TOML file on the worker's machine; empty: that of `marquee up`, or the defaults.
        home: The directory that everything is written to; empty: as configured (./.marquee).
        validated: The digest of the validated data to learn from, or its start; empty: the latest.
        settings: Any other settings, as {"section.key": value}, such as {"ncf.epochs": 10}.
    """
    return perform(training(validated), form.config_of(config_file, home, settings))


@flow(name="export")
def export(
    config_file: form.ConfigFile = None,
    home: form.Home = None,
    run_date: form.RunDate = None,
    model: form.Digest = None,
    n: form.ListLength = None,
    settings: form.Settings = {},  # noqa: B006
) -> dict[str, Any]:
    """Write, audit and publish every user's list with a model that is there already.

    Args:
        config_file: A TOML file on the worker's machine; empty: that of `marquee up`, or the defaults.
        home: The directory that everything is written to; empty: as configured (./.marquee).
        run_date: The night that the lists are for, YYYY-MM-DD; empty: today (UTC).
        model: The digest of the model to use, or its start; empty: the champion's.
        n: Titles per user; empty: as configured (20).
        settings: Any other settings, as {"section.key": value}, such as {"ncf.epochs": 10}.
    """
    config = form.config_of(config_file, home, settings, export__n=n)
    return perform(exporting(model), config, date.fromisoformat(run_date) if run_date else None)


def ingesting(run: Run, steps: Steps) -> dict[str, Any]:
    """Source to dataset."""
    return made(steps.call(ingest_task, run))


def validating(digest: str | None) -> Chain:
    """Dataset to validated dataset."""

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        return made(steps.call(validate_task, run, found(run, "dataset", digest, "ingest")))

    return chain


def training(digest: str | None) -> Chain:
    """Validated dataset to registered model."""

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        validated = found(run, "validated", digest, "validate")
        with whole.tracked(run, steps) as tracked_run:
            decision = whole.train(tracked_run, steps, validated)
            return whole.conclude(tracked_run, steps, decision, None)

    return chain


def exporting(digest: str | None) -> Chain:
    """Model to published lists."""

    def chain(run: Run, steps: Steps) -> dict[str, Any]:
        validated = found(run, "validated", None, "validate")
        with whole.tracked(run, steps) as tracked_run:
            if digest is None:
                model, version = whole.to_serve(tracked_run)
            else:
                model = found(tracked_run, "model", digest, "train")
                version = version_to_serve(tracked_run, model)
            publication = whole.publish(tracked_run, steps, validated, model, version)
            return whole.conclude(tracked_run, steps, None, publication)

    return chain


def found(run: Run, kind: str, digest: str | None, command: str) -> ArtefactRef:
    """The artefact of this digest (or the start of one), else the latest of its kind.

    Raises:
        UsageError: there is none, or several begin like that.
    """
    where = run.store.root / kind
    if digest is None:
        latest = run.store.latest(kind)
        if latest is None:
            raise UsageError(
                f"there is no {kind} artefact yet", where=str(where), remedy=f"run `marquee {command}` first"
            )
        return latest
    matches = sorted(where.glob(f"{digest}*"))
    if len(matches) != 1:
        how_many = "several artefacts begin" if matches else "no artefact begins"
        raise UsageError(f"{how_many} with {digest}", where=str(where), remedy="name it as the directory is named")
    return run.store.ref(kind, matches[0].name)


def made(ref: ArtefactRef) -> dict[str, Any]:
    """What a part made, for a person."""
    manifest = read_manifest(ref)
    return {
        "kind": ref.kind,
        "digest": ref.digest,
        "path": ref.path,
        "rows": manifest.rows,
        "summary": manifest.summary,
    }
