"""The winner, refitted on everything and put into a bundle: what is registered, and what exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task

from recsys.artefacts import ArtefactRef, Draft, digest_of, read_manifest
from recsys.bundle import BundleInfo, Comparison, SplitFacts, per_user_table, write_bundle
from recsys.data.split import Split
from recsys.data.validated import ValidatedDataset
from recsys.evaluation import Evaluation
from recsys.families import load_scorer
from recsys.histories import Floats, Histories
from recsys.selection import paired_bootstrap
from recsys.similar import behaviour_vectors, title_space
from tasks.events import EventTracker
from tasks.recipe import recipe
from tasks.run import Run, stage
from tasks.serving import forget_serving, serving_copy
from tasks.trained import Trained

if TYPE_CHECKING:
    from tasks.selection import NightDecision

KIND = "model"
SPACE_FILE = "space.npy"
"""Unit title vectors [n_items, d] in which similarity is measured, by the bundle's title numbers."""


@task(name="refit")
def refit_winner(
    run: Run, validated: ArtefactRef, trained: Trained, evaluation: ArtefactRef, decision: NightDecision
) -> ArtefactRef:
    """Refit the night's best model on all interactions, and bundle it.

    A challenger that the gate refused is bundled as it was measured: it does not serve, but may be looked at,
    compared, and promoted by hand.
    """
    with stage(run, "refit") as record:
        family = decision.winner or decision.challenger or "popularity"
        identity = model_identity(run, trained, family, refitted=decision.outcome != "keep")
        found = run.store.find(KIND, identity.parents, identity.configuration)
        record.reused = found is not None
        if found is None:
            with run.store.create(KIND, identity.parents, identity.configuration, seed=run.config.seed) as (
                draft,
                found,
            ):
                _write(run, validated, trained, evaluation, family, identity.refitted, draft)
            forget_serving(run)
        record.artefact, record.rows = found, read_manifest(found).rows["titles"]
        record.details = {"family": family, "refitted": identity.refitted}
        return found


class ModelIdentity:
    """What a model artefact is made of."""

    def __init__(self, parents: dict[str, str], configuration: dict[str, Any], *, refitted: bool) -> None:
        self.parents = parents
        self.configuration = configuration
        self.refitted = refitted
        self.digest = digest_of(KIND, parents, configuration)


def model_identity(run: Run, trained: Trained, family: str, *, refitted: bool = True) -> ModelIdentity:
    """The identity that a model of tonight has, whether it exists or not."""
    export = run.config.export.model_dump(include={"min_history", "new_titles", "blocked", "region"}, mode="json")
    configuration = {"family": family, "refitted": refitted, "seed": run.config.seed, **export}
    return ModelIdentity(trained.parents(family), configuration, refitted=refitted)


def _write(
    run: Run,
    validated: ArtefactRef,
    trained: Trained,
    evaluation: ArtefactRef,
    family: str,
    refitted: bool,
    draft: Draft,
) -> None:
    split = Split.load(Path(trained.split.path))
    measured = next(load_scorer(kind, folder) for name, kind, folder in trained.fitted() if name == family)
    serving = serving_copy(run, trained, split, family, EventTracker("refit")) if refitted else measured
    figures = Evaluation.load(evaluation.file(family))
    info = _info(run, validated, split, evaluation, family, figures)
    write_bundle(
        draft.path,
        info,
        items=split.items,
        titles=split.titles,
        users=split.users,
        histories=split.interactions,
        measured=measured,
        serving=serving,
        per_user=per_user_table(split.users.external(figures.users).to_pylist(), figures.per_user),
    )
    space = title_space(behaviour_vectors(split.interactions), _content(trained), _watched(split.interactions))
    np.save(draft.path / SPACE_FILE, space, allow_pickle=False)
    draft.rows.update(titles=len(split.items), users=len(split.users))
    made_by = recipe(run, family)
    draft.summary.update(family=family, refitted=refitted, metrics=dict(figures.metrics), recipe=made_by)


def _info(
    run: Run, validated: ArtefactRef, split: Split, evaluation: ArtefactRef, family: str, figures: Evaluation
) -> BundleInfo:
    data = ValidatedDataset.load(validated)
    rivals = {name: values for name, values in read_manifest(evaluation).summary["metrics"].items() if name != family}
    return BundleInfo(
        family=family,
        run_date=run.run_date,
        seed=run.config.seed,
        ordered=split.interactions.ordered,
        positive_from=data.positive_from(run.config.ratings.positive_from),
        split=SplitFacts(**{**run.config.split.model_dump(), "strategy": split.strategy}),
        digests={"validated": validated.digest, "evaluation": evaluation.digest},
        metrics=dict(figures.metrics),
        rivals=rivals,
        comparisons=tuple(_comparison(run, evaluation, name, figures) for name in rivals),
        licence=data.summary.get("licence"),
        citation=data.summary.get("citation"),
        **run.config.export.model_dump(include={"min_history", "new_titles", "blocked", "region"}),
    )


def _comparison(run: Run, evaluation: ArtefactRef, rival: str, figures: Evaluation) -> Comparison:
    gate = run.config.gate
    other = Evaluation.load(evaluation.file(rival))
    interval = paired_bootstrap(
        figures.per_user[gate.metric],
        other.per_user[gate.metric],
        resamples=gate.resamples,
        confidence=gate.confidence,
        seed=run.config.seed,
    )
    return Comparison(
        rival=rival,
        metric=gate.metric,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        confidence=gate.confidence,
    )


def _content(trained: Trained) -> Floats | None:
    if trained.content is None:
        return None
    from recsys.models.content_cnn import ContentCnn

    return ContentCnn.load(trained.content.file("final")).title_vectors


def _watched(interactions: Histories) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.bincount(interactions.item_nums, minlength=interactions.n_items) > 0
