"""The split step: a validated dataset, numbered and divided into windows."""

from __future__ import annotations

from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, read_manifest
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.data.split import make_split as divide
from recsys.data.validated import ValidatedDataset
from tasks.events import Note, emit
from tasks.run import Run, stage

STAGE = "split"


@task(name=STAGE)
def make_split(run: Run, validated: ArtefactRef) -> ArtefactRef:
    """Number users and titles, and divide their interactions into train, validation and test.

    Raises:
        SourceError: nothing positive is left to learn from.
        ArtefactError: the validated dataset is missing or damaged.
    """
    with stage(run, STAGE) as record:
        configuration = split_configuration(run)
        parents = {"validated": validated.digest}
        found = run.store.find("split", parents, configuration)
        record.reused = found is not None
        if found is None:
            data = ValidatedDataset.load(validated)
            split = divide(
                data.ratings,
                data.titles(),
                positive_from=data.positive_from(run.config.ratings.positive_from),
                **run.config.split.model_dump(),
            )
            if split.strategy != run.config.split.strategy:
                emit(Note(STAGE, f"there are no timestamps, so the split is random, not {run.config.split.strategy}"))
            with run.store.create("split", parents, configuration, seed=run.config.split.seed) as (draft, found):
                split.save(draft.path)
                draft.rows.update(_rows(split))
                draft.summary["strategy"] = split.strategy
        record.artefact = found
        record.rows = read_manifest(found).rows["interactions"]
        return found


def split_configuration(run: Run) -> dict[str, Any]:
    """What a split depends on, beside its data."""
    return {"split": run.config.split.model_dump(), "ratings": run.config.ratings.model_dump()}


def _rows(split: Split) -> dict[str, int]:
    windows = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    counted = {name: int((split.part == part).sum()) for name, part in windows.items()}
    return {"users": len(split.users), "titles": len(split.items), "interactions": len(split.part), **counted}
