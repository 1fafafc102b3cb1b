"""The second stage's step: NCF over the night's towers, trained in a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, digest_of, read_manifest, verify
from recsys.devices import Assignment, assign, turn
from recsys.errors import ArtefactError
from recsys.tracker import Tracker
from recsys.two_stage_copies import MEASURED, REPORT, SERVING, Parts, fit_ncf, refit_ncf
from recsys.workers import ChildResult
from tasks.engines import train
from tasks.events import EventTracker
from tasks.run import Run, stage

KIND = "ncf"
NAME = "NCF"


@task(name=KIND)
def train_ncf(
    run: Run, split: ArtefactRef, autoencoder: ArtefactRef, content: ArtefactRef, baselines: ArtefactRef
) -> ArtefactRef:
    """Train the second stage: ``measured/`` (the whole model, see recsys.two_stage_copies) and ``ncf.json``.

    Raises:
        ArtefactError: a tower was fitted on another split, or is missing or damaged.
        TrainingError: it diverged, had nothing to learn from, or its process was killed.
    """
    with stage(run, KIND) as record:
        parents = {
            "split": split.digest,
            "autoencoder": autoencoder.digest,
            "content": content.digest,
            "baselines": baselines.digest,
        }
        configuration = ncf_configuration(run)
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            for tower in (autoencoder, content, baselines):
                _same_split(split, tower)
            work = _work(run, digest_of(KIND, parents, configuration))
            result = _train(run, split, _parts(split, autoencoder, content, baselines), work, EventTracker(KIND))
            record.peak_rss_bytes = result.peak_rss_bytes
            with run.store.create(KIND, parents, configuration, seed=run.config.seed) as (draft, found):
                shutil.move(work / MEASURED, draft.path / MEASURED)  # moved: its large files are links
                shutil.move(work / REPORT, draft.path / REPORT)
                draft.rows["interactions"] = read_manifest(split).rows["interactions"]
                draft.summary.update({key: result.value[key] for key in ("settings", "share", "validation")})
                draft.summary["cost"] = result.cost
            shutil.rmtree(work, ignore_errors=True)
        manifest = read_manifest(found)
        record.artefact, record.rows, record.details = found, manifest.rows["interactions"], manifest.summary
        return found


def ncf_configuration(run: Run) -> dict[str, Any]:
    """What the second stage depends on, beside its data and towers. The device is not of it: any will do."""
    return {"ncf": run.config.ncf.model_dump(mode="json"), "seed": run.config.seed}


def serve_ncf(
    run: Run,
    split: ArtefactRef,
    towers: tuple[ArtefactRef, ArtefactRef, ArtefactRef],
    autoencoder_copies: Path,
    folder: Path,
    tracker: Tracker,
) -> None:
    """Make the serving copy in ``folder``, over towers fitted on everything, in a process of its own.

    Args:
        run: the night.
        split: whose interactions are all used.
        towers: the artefacts of autoencoder, content CNN and baselines.
        autoencoder_copies: where the autoencoders' serving copies lie, each under its name as a tower.
        folder: where the model is saved.
        tracker: hears the epochs.

    Raises:
        TrainingError: it diverged, or its process was killed.
    """
    work = _work(run, f"{towers[0].digest}-{SERVING}")
    job = _assignment(run, tracker)
    with turn(job.device):
        train(
            run.config.compute,
            refit_ncf,
            Path(split.path),
            _parts(split, *towers),
            autoencoder_copies,
            work,
            run.config.ncf,
            max_items=run.config.baselines.max_items,
            identity=work.name,
            device=job.device,
            precision=job.precision,
            seed=run.config.seed,
            name=NAME,
            threads=job.threads,
            tracker=tracker,
            log=_log(run),
        )
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(work / SERVING, folder)
    shutil.rmtree(work, ignore_errors=True)


def _same_split(split: ArtefactRef, tower: ArtefactRef) -> None:
    theirs = verify(tower).parents.get("split")
    if theirs != split.digest:
        raise ArtefactError(
            f"this {tower.kind} was fitted on split {theirs}, the night's is {split.digest}",
            where=tower.path,
            remedy="train it on this split: `marquee train` does",
        )


def _train(run: Run, split: ArtefactRef, parts: Parts, work: Path, tracker: Tracker) -> ChildResult[dict[str, Any]]:
    job = _assignment(run, tracker)
    with turn(job.device):
        return train(
            run.config.compute,
            fit_ncf,
            Path(split.path),
            parts,
            work,
            run.config.ncf,
            identity=work.name,
            device=job.device,
            precision=job.precision,
            seed=run.config.seed,
            name=NAME,
            threads=job.threads,
            tracker=tracker,
            log=_log(run),
        )


def _parts(split: ArtefactRef, autoencoder: ArtefactRef, content: ArtefactRef, baselines: ArtefactRef) -> Parts:
    titles = read_manifest(split).rows["titles"]
    return Parts(Path(autoencoder.path), Path(content.path), Path(baselines.path), titles)


def _assignment(run: Run, tracker: Tracker) -> Assignment:
    compute = run.config.compute
    job = assign(1, device=compute.device, precision=compute.precision, threads=compute.threads)[0]
    if job.note:
        tracker.note(job.note)
    return job


def _work(run: Run, name: str) -> Path:
    """Where unfinished work lies until its artefact is whole."""
    return run.home / "checkpoints" / KIND / name


def _log(run: Run) -> Path:
    return run.folder / "logs" / f"{KIND}.log"
