"""The content CNN's step: a copy measured on cold titles and a final one, trained in a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, digest_of, read_manifest, verify
from recsys.content_copies import FINAL, MEASURED, REPORT, fit_content
from recsys.devices import assign, turn
from recsys.tracker import Tracker
from recsys.workers import ChildResult
from tasks.engines import train
from tasks.events import EventTracker
from tasks.run import Run, stage

KIND = "content_cnn"
NAME = "content CNN"
TRAINERS_AT_ONCE = 2
"""This one and the user autoencoder."""


@task(name=KIND)
def train_content_cnn(run: Run, split: ArtefactRef) -> ArtefactRef:
    """Train the content CNN: ``measured/``, ``final/`` (see recsys.content_copies) and ``content.json``.

    Raises:
        TrainingError: it diverged, had nothing to learn from, or its process was killed.
        ArtefactError: the split is missing or damaged.
    """
    with stage(run, KIND) as record:
        parents, configuration = {"split": split.digest}, content_configuration(run)
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            verify(split)
            work = checkpoint_folder(run, digest_of(KIND, parents, configuration))
            result = _train(run, split, work, EventTracker(KIND))
            record.peak_rss_bytes = result.peak_rss_bytes
            with run.store.create(KIND, parents, configuration, seed=run.config.seed) as (draft, found):
                for name in (MEASURED, FINAL):
                    left_out = shutil.ignore_patterns("training.json", "checkpoint")
                    shutil.copytree(work / name, draft.path / name, ignore=left_out)
                shutil.copy(work / REPORT, draft.path / REPORT)
                draft.rows["titles"] = read_manifest(split).rows["titles"]
                draft.summary.update({key: result.value[key] for key in ("settings", "figures", "cold")})
                draft.summary["cost"] = result.cost
            shutil.rmtree(work, ignore_errors=True)
        manifest = read_manifest(found)
        record.artefact, record.rows, record.details = found, manifest.rows["titles"], manifest.summary
        return found


def content_configuration(run: Run) -> dict[str, Any]:
    """What the content CNN depends on, beside its data. The device is not of it: any will do."""
    return {"content": run.config.content.model_dump(mode="json"), "seed": run.config.seed}


def checkpoint_folder(run: Run, digest: str) -> Path:
    """Where unfinished work lies until its artefact is whole."""
    return run.home / "checkpoints" / KIND / digest


def _train(run: Run, split: ArtefactRef, work: Path, tracker: Tracker) -> ChildResult[dict[str, Any]]:
    compute = run.config.compute
    jobs = assign(TRAINERS_AT_ONCE, device=compute.device, precision=compute.precision, threads=compute.threads)
    job = jobs[-1]  # the autoencoder takes the first
    if job.note:
        tracker.note(job.note)
    with turn(job.device):
        return train(
            run.config.compute,
            fit_content,
            Path(split.path),
            work,
            run.config.content,
            identity=work.name,
            device=job.device,
            precision=job.precision,
            seed=run.config.seed,
            name=NAME,
            threads=job.threads,
            tracker=tracker,
            log=run.folder / "logs" / f"{KIND}.log",
        )
