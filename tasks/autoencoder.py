"""The user autoencoder's step: two copies, trained in a process of their own; and its refit on everything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, digest_of, read_manifest, verify
from recsys.autoencoder_copies import COMPANION, FIT, NOT_MODEL, SERVING, TRAIN, fit_copies, refit_copy
from recsys.devices import Assignment, assign, turn
from recsys.tracker import Tracker
from recsys.workers import ChildResult
from tasks.engines import of_its_bytes, train
from tasks.events import EventTracker
from tasks.run import Run, stage

KIND = "user_autoencoder"
NAME = "user autoencoder"
REPORT = "autoencoder.json"
TRAINERS_AT_ONCE = 2
"""This one and the content CNN."""


@task(name=KIND)
def train_autoencoder(run: Run, split: ArtefactRef) -> ArtefactRef:
    """Train the user autoencoder: ``train/``, ``fit/`` (see recsys.autoencoder_copies) and ``autoencoder.json``.

    Where there is order there are two of them: the companion's copies lie in ``companion/``.

    Raises:
        TrainingError: it diverged, had nothing to learn from, or its process was killed.
        ArtefactError: the split is missing or damaged.
    """
    with stage(run, KIND) as record:
        parents, configuration = {"split": split.digest}, autoencoder_configuration(run)
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            verify(split)
            work = checkpoint_folder(run, digest_of(KIND, parents, configuration))
            result = _train(run, split, work, EventTracker(KIND))
            record.peak_rss_bytes = result.peak_rss_bytes
            with run.store.create(KIND, parents, configuration, seed=run.config.seed) as (draft, found):
                for name in (TRAIN, FIT, COMPANION):
                    if (work / name).is_dir():
                        shutil.move(work / name, draft.path / name)
                shutil.copy(work / REPORT, draft.path / REPORT)
                draft.rows["interactions"] = read_manifest(split).rows["interactions"]
                draft.summary.update(_summary(result.value), cost=result.cost)
            shutil.rmtree(work, ignore_errors=True)
        manifest = read_manifest(found)
        record.artefact, record.rows, record.details = found, manifest.rows["interactions"], manifest.summary
        return found


def autoencoder_configuration(run: Run) -> dict[str, Any]:
    """What the autoencoder depends on, beside its data. The device is not of it: any will do; how many ranks is."""
    settings = {"autoencoder": run.config.autoencoder.model_dump(mode="json"), "seed": run.config.seed}
    return settings | of_its_bytes(run.config.compute)


def checkpoint_folder(run: Run, digest: str) -> Path:
    """Where unfinished work lies until its artefact is whole."""
    return run.home / "checkpoints" / KIND / digest


def _train(run: Run, split: ArtefactRef, work: Path, tracker: Tracker) -> ChildResult[dict[str, Any]]:
    job = _assignment(run, TRAINERS_AT_ONCE, tracker)
    with turn(job.device):
        return train(
            run.config.compute,
            fit_copies,
            Path(split.path),
            work,
            run.config.autoencoder,
            identity=work.name,
            device=job.device,
            precision=job.precision,
            seed=run.config.seed,
            together=True,
            name=NAME,
            threads=job.threads,
            tracker=tracker,
            log=_log(run),
        )


def refit_autoencoder(run: Run, split: ArtefactRef, autoencoder: ArtefactRef, folder: Path, tracker: Tracker) -> None:
    """Make the serving copies: fitted on every interaction, warm-started, in a process of its own.

    Args:
        run: the night.
        split: whose interactions are all used.
        autoencoder: the artefact whose copy ``fit`` it begins from.
        folder: where the models are saved, each under its name as a tower.
        tracker: hears the epochs.

    Raises:
        TrainingError: it diverged, or its process was killed.
        ArtefactError: an artefact is missing or damaged.
    """
    verify(split)
    verify(autoencoder)
    work = checkpoint_folder(run, f"{autoencoder.digest}-{SERVING}")
    job = _assignment(run, 1, tracker)
    with turn(job.device):
        train(
            run.config.compute,
            refit_copy,
            Path(split.path),
            Path(autoencoder.path),
            work,
            identity=work.name,
            device=job.device,
            precision=job.precision,
            seed=run.config.seed,
            together=True,
            name=NAME,
            threads=job.threads,
            tracker=tracker,
            log=_log(run),
        )
    shutil.copytree(work / SERVING, folder, ignore=NOT_MODEL, dirs_exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _assignment(run: Run, jobs: int, tracker: Tracker) -> Assignment:
    compute = run.config.compute
    job = assign(jobs, device=compute.device, precision=compute.precision, threads=compute.threads)[0]
    if job.note:
        tracker.note(job.note)
    return job


def _log(run: Run) -> Path:
    return run.folder / "logs" / f"{KIND}.log"


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    first = report[TRAIN]
    best = first["curve"][first["best_epoch"] - 1]
    return {
        "variant": report["variant"],
        "settings": report["settings"],
        "epochs": first["epochs"],
        "best_epoch": first["best_epoch"],
        "validation": {name: value for name, value in best.items() if name != "loss"},
    }
