"""The baselines step: every closed-form rival, tuned on the validation window and fitted; and rivals one by one.

A night makes them all in one go. The ring makes each in a process of its own, so that its seconds and memory are its
own; a second stage can stand on either.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task

from recsys.artefacts import ArtefactRef, digest_of, link, read_manifest, verify, write_text
from recsys.data.split import VALIDATION, Split
from recsys.plugins import NamedFamily
from recsys.ring_runs import FIT, REPORT, TRAIN
from recsys.ring_runs import fit_rival as run_rival
from recsys.rivals import TRAININGS, fit_rivals_of
from tasks.children import in_child
from tasks.run import Run, stage

STAGE = "baselines"
RIVAL = "rival"


@task(name=STAGE)
def fit_baselines(run: Run, split: ArtefactRef) -> ArtefactRef:
    """Tune and fit the baselines: ``<family>/train``, ``<family>/fit`` and ``baselines.json`` (see recsys.rivals).

    Raises:
        ConfigError: a configured baseline does not exist.
    """
    with stage(run, STAGE) as record:
        seed = run.config.seed
        parents, configuration = {"split": split.digest}, baselines_configuration(run)
        found = run.store.find(STAGE, parents, configuration)
        record.reused = found is not None
        if found is None:
            verify(split)
            work = run.home / "checkpoints" / STAGE / digest_of(STAGE, parents, configuration)
            result = in_child(
                run,
                fit_rivals_of,
                Path(split.path),
                work,
                run.config.baselines,
                seed=seed,
                stage=STAGE,
                name=STAGE,
            )
            record.peak_rss_bytes = result.peak_rss_bytes
            with run.store.create(STAGE, parents, configuration, seed=seed) as (draft, found):
                for part in sorted(work.iterdir()):
                    shutil.move(part, draft.path / part.name)
                draft.rows["interactions"] = int(np.count_nonzero(Split.load(Path(split.path)).part <= VALIDATION))
                draft.summary.update(families=result.value, cost=result.cost)
            shutil.rmtree(work, ignore_errors=True)
        manifest = read_manifest(found)
        record.artefact, record.rows = found, manifest.rows["interactions"]
        record.details = {name: entry["validation"] for name, entry in manifest.summary["families"].items()}
        return found


def baselines_configuration(run: Run) -> dict[str, Any]:
    """What the baselines depend on, beside their data."""
    return {**run.config.baselines.model_dump(mode="json"), "seed": run.config.seed}


def fit_rival(run: Run, split: ArtefactRef, rival: NamedFamily, budget: int | None = None) -> ArtefactRef:
    """Tune and fit one rival in a process of its own: ``fit/``, ``train/`` and ``rival.json`` (see recsys.ring_runs).

    The manifest's summary holds ``params``, ``validation``, ``tried``, ``seconds`` (tune, fit) and ``cost``.

    Args:
        run: the run.
        split: to tune and fit on; its test window is not read.
        rival: one of ours, or brought along.
        budget: most settings tried; None: the whole grid, or six trainings.

    Raises:
        TrainingError: it failed, or its process was killed.
    """
    name, config = f"{RIVAL}-{rival.name}", run.config
    with stage(run, name) as record:
        most = budget or (TRAININGS if rival.family.validated else None)
        configuration = {
            "rival": rival.spec,
            "code": rival.code,
            "budget": most,
            "max_items": config.baselines.max_items,
            "seed": config.seed,
        }
        parents = {"split": split.digest}
        found = run.store.find(RIVAL, parents, configuration)
        record.reused = found is not None
        if found is None:
            verify(split)
            with run.store.create(RIVAL, parents, configuration, seed=config.seed) as (draft, found):
                result = in_child(
                    run,
                    run_rival,
                    Path(split.path),
                    draft.path,
                    rival.spec,
                    budget=most,
                    max_items=config.baselines.max_items,
                    seed=config.seed,
                    stage=name,
                    name=rival.name,
                )
                record.peak_rss_bytes = result.peak_rss_bytes
                draft.rows["interactions"] = read_manifest(split).rows["interactions"]
                draft.summary.update(result.value, cost=result.cost)
        manifest = read_manifest(found)
        record.artefact, record.rows, record.details = found, manifest.rows["interactions"], manifest.summary
        return found


def baselines_of(
    run: Run, split: ArtefactRef, rivals: Mapping[str, ArtefactRef], budget: int | None = None
) -> ArtefactRef:
    """Rivals of ours, fitted one by one, put together as :func:`fit_baselines` makes them.

    On as many threads the bytes are the same.

    Args:
        run: the run.
        split: that they were fitted on.
        rivals: from :func:`fit_rival`: all that the configuration runs, in the order of ``recsys.rivals.FAMILIES``.
        budget: that they were tuned with.
    """
    with stage(run, STAGE) as record:
        parents = {"split": split.digest}
        configuration = baselines_configuration(run) | ({} if budget is None else {"budget": budget})
        found = run.store.find(STAGE, parents, configuration)
        record.reused = found is not None
        if found is None:
            with run.store.create(STAGE, parents, configuration, seed=run.config.seed) as (draft, found):
                reports = {}
                for name, ref in rivals.items():
                    for copy in (TRAIN, FIT):
                        shutil.copytree(ref.file(copy), draft.path / name / copy, copy_function=link)
                    reports[name] = json.loads(ref.file(REPORT).read_text(encoding="utf-8"))
                write_text(draft.path / "baselines.json", json.dumps(reports, indent=1) + "\n")
                draft.rows["interactions"] = len(Split.load(Path(split.path)).fit.item_nums)
                draft.summary["families"] = {name: _family(ref) for name, ref in rivals.items()}
        record.artefact, record.rows = found, read_manifest(found).rows["interactions"]
        return found


def _family(rival: ArtefactRef) -> dict[str, Any]:
    summary = read_manifest(rival).summary
    seconds = round(sum(summary["seconds"].values()), 2)
    return {**{key: summary[key] for key in ("params", "validation", "covered")}, "seconds": seconds}
