"""Measure tonight's candidates and the champion on the same users, and decide which model serves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefect import task

from recsys.artefacts import ArtefactRef, digest_of, read_manifest
from recsys.bundle import SplitFacts, load_bundle
from recsys.candidates import measure_bundle, measure_candidates
from recsys.data.split import TEST, Split
from recsys.evaluation import Evaluation
from recsys.families import load_scorer
from recsys.selection import Decision
from recsys.selection import decide as judge
from recsys.title_groups import TitleGroups
from tasks.children import in_child
from tasks.events import Note, emit
from tasks.recipe import recipe
from tasks.refit import model_identity
from tasks.registry import Champion, current_champion
from tasks.run import Run, stage
from tasks.trained import NCF, Trained

KIND = "evaluation"
STAGE = "evaluate"
CHAMPION = "champion"


class NightDecision(Decision):
    """The decision, with the registry's side of it."""

    serves: str
    """The family that serves from tonight."""
    promote: bool
    """Whether tonight's model becomes the champion."""
    against: str | None
    """The champion's version that it was compared with."""


@task(name=STAGE)
def evaluate_candidates(run: Run, trained: Trained) -> ArtefactRef:
    """Measure every candidate on the test window: full ranking, nothing sampled, touched once.

    Raises:
        ArtefactError: a model is damaged, or of another split.
    """
    with stage(run, STAGE) as record:
        parents = {name: ref.digest for name, ref in trained if ref is not None}
        configuration = evaluation_configuration(run)
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            work = run.home / "checkpoints" / KIND / digest_of(KIND, parents, configuration)
            result = in_child(
                run,
                measure_candidates,
                Path(trained.split.path),
                tuple(trained.fitted()),
                work,
                users=run.config.gate.users,
                stage=STAGE,
                name=KIND,
            )
            record.peak_rss_bytes, metrics = result.peak_rss_bytes, result.value
            with run.store.create(KIND, parents, configuration) as (draft, found):
                for name in metrics:
                    shutil.move(work / name, draft.path / name)
                draft.summary.update(metrics=metrics, cost=result.cost)
                draft.rows["users"] = len(Evaluation.load(draft.path / next(iter(metrics))).users)
            shutil.rmtree(work, ignore_errors=True)
        record.artefact, record.rows = found, read_manifest(found).rows["users"]
        return found


@task(name="decide")
def decide(run: Run, trained: Trained, evaluation: ArtefactRef) -> NightDecision:
    """Hold the candidates against the champion: same users, same window, paired."""
    with stage(run, "decide") as record:
        candidates = load_evaluations(evaluation)
        champion = current_champion(run)
        same = _same_as_champion(run, trained, champion, list(candidates))
        opponent = candidates[same] if same else _measure_champion(run, trained.split, champion)
        split = Split.load(Path(trained.split.path))
        decision = judge(
            candidates,
            opponent,
            run.config.gate,
            preferred=NCF,
            same_as_champion=same,
            champions_recipe=None if same else _champions_recipe(run, champion, list(candidates)),
            uncompared=opponent is None and champion.version is not None,
            titles=TitleGroups.of(split.known(TEST), split.asked(TEST, run.config.gate.users)),
            seed=run.config.seed,
        )
        record.details = {"outcome": decision.outcome, "champion": champion.model_dump(mode="json")}
        version = champion.version
        serves = decision.winner or (version.family if version else decision.challenger) or NCF
        return NightDecision(
            **decision.model_dump(),
            serves=serves,
            promote=decision.outcome in {"promote", "first"},
            against=version.version if version else None,
        )


def evaluation_configuration(run: Run) -> dict[str, Any]:
    """What an evaluation depends on, beside the models and the split."""
    return {"users": run.config.gate.users}


def load_evaluations(evaluation: ArtefactRef) -> dict[str, Evaluation]:
    """Every candidate's evaluation, by name."""
    names = read_manifest(evaluation).summary["metrics"]
    return {name: Evaluation.load(evaluation.file(name)) for name in names}


def split_facts(run: Run, split: Split) -> SplitFacts:
    """How tonight's split was cut."""
    return SplitFacts(**{**run.config.split.model_dump(), "strategy": split.strategy})


def _same_as_champion(run: Run, trained: Trained, champion: Champion, names: list[str]) -> str | None:
    if champion.bundle is None:
        return None
    return next((n for n in names if model_identity(run, trained, n).digest == champion.bundle.digest), None)


def _champions_recipe(run: Run, champion: Champion, names: list[str]) -> str | None:
    """The family of tonight that was made just as the champion was, from other data; None where none was."""
    if champion.bundle is None or champion.version is None or champion.version.family not in names:
        return None
    made_by = read_manifest(champion.bundle).summary.get("recipe")  # none in a bundle of an older Marquee
    return champion.version.family if made_by == recipe(run, champion.version.family) else None


def _measure_champion(run: Run, split_ref: ArtefactRef, champion: Champion) -> Evaluation | None:
    if champion.bundle is None:
        return None
    parents = {"split": split_ref.digest, "champion": champion.bundle.digest}
    configuration = evaluation_configuration(run)
    found = run.store.find(KIND, parents, configuration)
    if found is None:
        split = Split.load(Path(split_ref.path))
        bundle = load_bundle(Path(champion.bundle.path), load_scorer=load_scorer, verified=False)
        if bundle.info.split != split_facts(run, split):
            emit(Note("decide", _NOT_COMPARABLE))
            return None
        with run.store.create(KIND, parents, configuration) as (draft, found):
            place = draft.path / CHAMPION
            result = in_child(
                run,
                measure_bundle,
                Path(split_ref.path),
                Path(champion.bundle.path),
                place,
                users=run.config.gate.users,
                stage="decide",
                name=CHAMPION,
            )
            draft.summary.update(metrics={CHAMPION: result.value}, cost=result.cost)
            draft.rows["users"] = len(Evaluation.load(place).users)
    return Evaluation.load(found.file(CHAMPION))


_NOT_COMPARABLE = (
    "the champion was measured on a split that was cut otherwise, so it may have seen tonight's test window: "
    "tonight's best candidate is held against the floors alone"
)
