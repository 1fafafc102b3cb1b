"""The baselines step: every closed-form rival, tuned on the validation window and fitted."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from recsys.artefacts import ArtefactRef, read_manifest
from recsys.data.split import Split
from recsys.rivals import fit_rivals
from tasks.events import EventTracker
from tasks.run import Run, stage

STAGE = "baselines"


@task(name=STAGE)
def fit_baselines(run: Run, split: ArtefactRef) -> ArtefactRef:
    """Tune and fit the baselines: ``<family>/train``, ``<family>/fit`` and ``baselines.json`` (see recsys.rivals).

    Raises:
        ConfigError: a configured baseline does not exist.
    """
    with stage(run, STAGE) as record:
        seed = run.config.seed
        parents = {"split": split.digest}
        configuration = {**run.config.baselines.model_dump(mode="json"), "seed": seed}
        found = run.store.find(STAGE, parents, configuration)
        record.reused = found is not None
        if found is None:
            with run.store.create(STAGE, parents, configuration, seed=seed) as (draft, found):
                data = Split.load(Path(split.path))
                report = fit_rivals(data, draft.path, run.config.baselines, seed=seed, tracker=EventTracker(STAGE))
                draft.rows["interactions"] = len(data.fit.item_nums)
                draft.summary["families"] = report
        manifest = read_manifest(found)
        record.artefact, record.rows = found, manifest.rows["interactions"]
        record.details = {name: entry["validation"] for name, entry in manifest.summary["families"].items()}
        return found
