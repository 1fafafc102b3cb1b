"""Models in the ring: on the configured source and a split strategy, or on a split of somebody's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.artefacts import ArtefactRef, read_manifest, write_text
from recsys.config import Config, SourceConfig, SplitStrategy
from recsys.data.given_split import given_split
from recsys.data.split import Split
from recsys.data.validated import ValidatedDataset
from recsys.evaluation import Evaluation
from recsys.plugins import NamedFamily
from tasks.events import Note, emit
from tasks.ingest import ingest
from tasks.ring import fit_all, hold, measure_all, named, read_ring, without_order
from tasks.ring_costs import costs
from tasks.run import Run
from tasks.split import make_split, split_configuration
from tasks.validate import validate

STAGE = "evaluate"
Report = dict[str, Any]
Models = Mapping[str, NamedFamily | None]


def evaluate_source(
    config: Config,
    *,
    models: tuple[str, ...],
    strategy: SplitStrategy | None = None,
    budget: int | None = None,
    out: Path | None = None,
) -> Report:
    """Measure models on the configured source: full ranking, seen titles left out, nothing sampled.

    Every rival is tuned on the validation window with the same budget, and fitted on train and validation; the test
    window is touched once, since what was measured is an artefact and is not measured again.

    Args:
        config: source, split, models' settings.
        models: names of rivals and of ours (``user_autoencoder``, ``content_cnn``, ``blend``, ``ncf``), and
            ``module:attribute`` for rivals brought along (:mod:`recsys.plugins`).
        strategy: of the split; None: the configured one.
        budget: most settings tried per rival; None: the whole grid (6 for those that train with early stopping).
        out: where the report is written as JSON, besides being returned; None: under home. The lists that were
            measured (100 titles a user) are written as Parquet (user_id, rank, item_id) into ``<out>.ranks/``.

    Returns:
        ``models``: all metrics by model; ``ring``: see :class:`recsys.ring.Ring`, each model with its costs
        (:func:`tasks.ring_costs.costs`); ``split``; ``left_out_models``; ``test_users``; ``evaluation`` (the digest of
        what was measured).

    Raises:
        UsageError: an unknown model.
        SourceError: the source is at fault.
    """
    chosen = named(models)
    if strategy is not None:
        split_config = config.split.model_copy(update={"strategy": strategy})
        config = config.model_copy(update={"split": split_config})
    run = _run(config)
    split = make_split.fn(run, validate.fn(run, ingest.fn(run)))
    return _evaluate(run, split, chosen, budget, out, {})


def evaluate_files(
    config: Config,
    *,
    train: str,
    test: str,
    titles: str | None,
    models: tuple[str, ...],
    budget: int | None = None,
    out: Path | None = None,
) -> Report:
    """Train models on one file, measure them on another: otherwise as :func:`evaluate_source`.

    Every model is tuned on the last fifth of each user's train ratings, then fitted on all of train.

    Args:
        config: everything but the source.
        train: ratings to learn from: CSV, TSV, Parquet, or a glob.
        test: ratings to be foreseen; the positive ones are the targets.
        titles: the titles' metadata.
        models: as of :func:`evaluate_source`.
        budget: as there.
        out: as there.

    Returns:
        as there, and ``left_out``: how many test ratings are of pairs that train holds too.

    Raises:
        UsageError: an unknown model.
        SourceError: a file is at fault.
    """
    chosen = named(models)
    source = SourceConfig(kind="files", ratings=train, titles=titles, **_reading(config))
    run = _run(config.model_copy(update={"source": source}))
    split, left_out = _given(run, test)
    return _evaluate(run, split, chosen, budget, out, {"left_out": left_out})


def _run(config: Config) -> Run:
    now = datetime.now(UTC)
    return Run(run_id=f"evaluate-{now:%Y%m%d-%H%M%S-%f}", run_date=now.date(), config=config, started_at=now)


def _reading(config: Config) -> dict[str, Any]:
    return config.source.model_dump(include={"columns", "rating_min", "rating_max"})


def _given(run: Run, test: str) -> tuple[ArtefactRef, int]:
    """The split of two files, and how many test ratings are left out."""
    validated = validate.fn(run, ingest.fn(run))
    wanted_source = SourceConfig(kind="files", ratings=test, **_reading(run.config))
    wanted_run = run.model_copy(update={"config": run.config.model_copy(update={"source": wanted_source})})
    wanted = validate.fn(wanted_run, ingest.fn(wanted_run))
    parents = {"train": validated.digest, "test": wanted.digest}
    configuration = split_configuration(run)
    found = run.store.find("split", parents, configuration)
    if found is None:
        data, wanted_data = ValidatedDataset.load(validated), ValidatedDataset.load(wanted)
        split, count = given_split(
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
            draft.summary.update(strategy=split.strategy, left_out=count)
    left_out = int(read_manifest(found).summary["left_out"])
    if left_out:
        emit(Note(STAGE, f"{left_out:,} test ratings are of pairs that train holds too: they are left out"))
    return found, left_out


def _evaluate(
    run: Run, split: ArtefactRef, models: Models, budget: int | None, out: Path | None, facts: Mapping[str, Any]
) -> Report:
    data = Split.load(Path(split.path))
    skipped = [] if data.interactions.ordered else without_order(models)
    if skipped:
        emit(Note(STAGE, f"the split has no order of time, so these are left out: {', '.join(skipped)}"))
    entries = fit_all(run, split, {name: rival for name, rival in models.items() if name not in skipped}, budget)
    evaluations = measure_all(run, split, entries)
    held = hold(run, split, evaluations)
    ring = read_ring(held)
    told = ring.model_dump(mode="json")
    for name in told["models"]:
        told["models"][name] |= costs(name, entries[name], evaluations[name])
    report: Report = {
        "models": {name: read_manifest(ref).summary["metrics"] for name, ref in evaluations.items()},
        **facts,
        "positive_from": run.config.ratings.positive_from,
        "test_users": ring.users,
        "evaluation": held.digest,
        "split": _about(run, data, given="left_out" in facts),
        "budget": budget,
        "left_out_models": dict.fromkeys(skipped, "it reads the order of time, and the split has none"),
        "ring": told,
    }
    out = out or run.folder / "metrics.json"
    _write(out, report, evaluations, data)
    emit(Note(STAGE, f"the report is in {out}, the lists that were measured in {_ranks(out)}"))
    return report


def _about(run: Run, split: Split, *, given: bool) -> dict[str, Any]:
    facts = {**run.config.split.model_dump(mode="json"), "strategy": "given" if given else split.strategy}
    return facts | {"ordered": split.interactions.ordered, "users": len(split.users), "titles": len(split.items)}


def _write(out: Path, report: Report, evaluations: Mapping[str, ArtefactRef], split: Split) -> None:
    _ranks(out).mkdir(parents=True, exist_ok=True)
    for name, ref in evaluations.items():
        measured = Evaluation.load(Path(ref.path))
        measured.export_ranks(_ranks(out) / f"{name}.parquet", split.users, split.items)
    write_text(out, json.dumps(report, indent=1) + "\n")


def _ranks(out: Path) -> Path:
    return out.with_name(f"{out.stem}.ranks")
