"""Models on a split of somebody's own: how Marquee is compared with others."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.artefacts import ArtefactRef, read_manifest, write_text
from recsys.config import Config, SourceConfig
from recsys.data.given_split import given_split
from recsys.data.split import Split
from recsys.data.validated import ValidatedDataset
from recsys.errors import UsageError
from recsys.evaluation import Evaluation
from recsys.rivals import FAMILIES as RIVALS
from tasks.autoencoder import train_autoencoder
from tasks.baselines import fit_baselines
from tasks.content import train_content_cnn
from tasks.events import Note, emit
from tasks.ingest import ingest
from tasks.ncf import train_ncf
from tasks.run import Run
from tasks.selection import evaluate_candidates
from tasks.split import split_configuration
from tasks.trained import AUTOENCODER, BLEND, NCF, Trained
from tasks.validate import validate

NEURAL = (AUTOENCODER, BLEND, NCF)


def evaluate_files(
    config: Config, *, train: str, test: str, titles: str | None, models: tuple[str, ...], out: Path | None
) -> dict[str, dict[str, float]]:
    """Train models on one file, measure them on another: full ranking, seen titles left out, nothing sampled.

    Every model is tuned on the last fifth of each user's train ratings, then fitted on all of train. The lists that
    were measured (100 titles a user) are written as Parquet (user_id, rank, item_id) into ``<out>.ranks/``.

    Args:
        config: everything but the source.
        train: ratings to learn from: CSV, TSV, Parquet, or a glob.
        test: ratings to be foreseen; the positive ones are the targets.
        titles: the titles' metadata.
        models: names of baselines, ``user_autoencoder``, ``ncf``.
        out: where the metrics are written as JSON, besides being returned; None: under home.

    Returns:
        metrics by model.

    Raises:
        UsageError: an unknown model.
        SourceError: a file is at fault.
    """
    _check(models)
    run = _run(config, train, titles)
    split, facts = _split(run, test)
    trained = _train(run, split, models)
    evaluation = evaluate_candidates.fn(run, trained)
    metrics: dict[str, dict[str, float]] = {name: read_manifest(evaluation).summary["metrics"][name] for name in models}
    out = out or run.folder / "metrics.json"
    _write(out, {"models": metrics, **facts, "positive_from": config.ratings.positive_from}, evaluation, split)
    emit(Note("evaluate", f"metrics in {out}, the lists that were measured in {_ranks(out)}"))
    return metrics


def _check(models: tuple[str, ...]) -> None:
    known = (*RIVALS, *NEURAL)
    for name in models:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{name!r} is not a model", where="--models", remedy=f"{hint}known are {', '.join(known)}")
    if not models:
        raise UsageError("no model was named", where="--models", remedy=f"known are {', '.join(known)}")


def _run(config: Config, train: str, titles: str | None) -> Run:
    now = datetime.now(UTC)
    source = SourceConfig(kind="files", ratings=train, titles=titles, **_reading(config))
    return Run(
        run_id=f"evaluate-{now:%Y%m%d-%H%M%S-%f}",
        run_date=now.date(),
        config=config.model_copy(update={"source": source}),
        started_at=now,
    )


def _reading(config: Config) -> dict[str, Any]:
    return config.source.model_dump(include={"columns", "rating_min", "rating_max"})


def _split(run: Run, test: str) -> tuple[ArtefactRef, dict[str, Any]]:
    validated = validate.fn(run, ingest.fn(run))
    wanted_source = SourceConfig(kind="files", ratings=test, **_reading(run.config))
    wanted_run = run.model_copy(update={"config": run.config.model_copy(update={"source": wanted_source})})
    wanted = validate.fn(wanted_run, ingest.fn(wanted_run))
    parents = {"train": validated.digest, "test": wanted.digest}
    configuration = split_configuration(run)
    found = run.store.find("split", parents, configuration)
    if found is None:
        data, wanted_data = ValidatedDataset.load(validated), ValidatedDataset.load(wanted)
        split, left_out = given_split(
            data.ratings,
            wanted_data.ratings,
            data.titles(),
            positive_from=data.positive_from(run.config.ratings.positive_from),
            validation_fraction=run.config.split.validation_fraction,
            seed=run.config.split.seed,
        )
        with run.store.create("split", parents, configuration, seed=run.config.split.seed) as (draft, found):
            split.save(draft.path)
            draft.rows.update(interactions=len(split.part), users=len(split.users), titles=len(split.items))
            draft.summary.update(strategy=split.strategy, left_out=left_out)
    left_out = read_manifest(found).summary["left_out"]
    if left_out:
        emit(Note("evaluate", f"{left_out:,} test ratings are of pairs that train holds too: they are left out"))
    return found, {"left_out": left_out}


def _train(run: Run, split: ArtefactRef, models: tuple[str, ...]) -> Trained:
    rivals = tuple(name for name in models if name in RIVALS)
    if not {NCF, BLEND} & set(models):
        narrowed = run.config.baselines.model_copy(update={"models": rivals})
        run = run.model_copy(update={"config": run.config.model_copy(update={"baselines": narrowed})})
    baselines = fit_baselines.fn(run, split)
    if not set(models) & set(NEURAL):
        return Trained(split=split, baselines=baselines)
    autoencoder = train_autoencoder.fn(run, split)
    if not {NCF, BLEND} & set(models):
        return Trained(split=split, autoencoder=autoencoder, baselines=baselines)
    content = train_content_cnn.fn(run, split)
    ncf = train_ncf.fn(run, split, autoencoder, content, baselines)
    return Trained(split=split, autoencoder=autoencoder, content=content, baselines=baselines, ncf=ncf)


def _write(out: Path, figures: Mapping[str, Any], evaluation: ArtefactRef, split_ref: ArtefactRef) -> None:
    split = Split.load(Path(split_ref.path))
    _ranks(out).mkdir(parents=True, exist_ok=True)
    users = 0
    for name in figures["models"]:
        measured = Evaluation.load(evaluation.file(name))
        measured.export_ranks(_ranks(out) / f"{name}.parquet", split.users, split.items)
        users = len(measured.users)
    write_text(out, json.dumps({**figures, "test_users": users, "evaluation": evaluation.digest}, indent=1) + "\n")


def _ranks(out: Path) -> Path:
    return out.with_name(f"{out.stem}.ranks")
