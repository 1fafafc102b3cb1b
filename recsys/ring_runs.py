"""What the ring's processes run: a rival tuned and fitted, a model measured. Each tells the seconds that it took.

They take paths, so that a fresh interpreter can run them and its peak of memory is the model's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.artefacts import write_text
from recsys.candidates import Window
from recsys.coverage import coverage, say_coverage
from recsys.data.split import VALIDATION, Split
from recsys.families import FAMILIES as SCORERS
from recsys.families import load_scorer
from recsys.plugins import resolve
from recsys.rivals import FAMILIES, tune
from recsys.tracker import Tracker

REPORT = "rival.json"
TRAIN, FIT = "train", "fit"


def fit_rival(
    split_folder: Path,
    folder: Path,
    spec: str,
    *,
    budget: int | None,
    max_items: int,
    seed: int,
    tracker: Tracker,
) -> dict[str, Any]:
    """Tune a rival on the validation window and fit it with the setting chosen on train and validation.

    Writes ``fit/`` (the model), ``rival.json`` (parameters, validation figures, every setting tried) and, for rivals of
    ours, ``train/`` (fitted on the train window: a tower that a second stage learns from).

    Args:
        split_folder: holds a :class:`recsys.data.split.Split`; its test window is not read.
        folder: where to.
        spec: see :func:`recsys.plugins.resolve`.
        budget: most settings tried; see :func:`recsys.rivals.tune`.
        max_items: most titles of dense models.
        seed: of what is drawn.
        tracker: hears the figures of the setting chosen.

    Returns:
        ``params``, ``validation``, ``covered``, ``tried`` (how many) and ``seconds``: ``tune`` and ``fit``.

    Raises:
        UsageError: no such rival.
    """
    rival = resolve(spec)
    split = Split.load(split_folder)
    seconds: dict[str, float] = {}
    with _timed(seconds, "tune"):
        tuned = tune(
            rival.family,
            split.train,
            split.targets(VALIDATION),
            known=split.known(VALIDATION),
            budget=budget,
            seed=seed,
        )
    with _timed(seconds, "fit"):
        model = rival.family.fit(split.fit, dict(tuned.params), max_items, seed)
    model.save(folder / FIT)
    if rival.name in FAMILIES:
        rival.family.fit(split.train, dict(tuned.params), max_items, seed).save(folder / TRAIN)
    tracker.epoch(1, 1, {f"{rival.name}_{metric}": value for metric, value in tuned.validation.items()})
    covered = coverage(model, split.fit)
    say_coverage(rival.name, covered, tracker)
    write_text(folder / REPORT, json.dumps({**tuned.report(), "covered": covered}, indent=1) + "\n")
    return {
        "params": tuned.params,
        "validation": dict(tuned.validation),
        "covered": covered,
        "tried": len(tuned.tried),
        "seconds": seconds,
    }


def measure_model(
    split_folder: Path, model: Path, spec: str, folder: Path, *, users: int, tracker: Tracker
) -> dict[str, Any]:
    """Measure a model on the test window: full ranking, seen titles left out, nothing sampled.

    Args:
        split_folder: holds the split.
        model: where the model was saved, fitted on train and validation.
        spec: its family (:mod:`recsys.families`), or ``module:attribute`` of a rival brought along.
        folder: where the :class:`recsys.evaluation.Evaluation` is written.
        users: most users measured, evenly spaced.
        tracker: hears the main figure.

    Returns:
        ``metrics``, ``users`` (how many) and ``seconds`` (of scoring and ranking).
    """
    scorer = load_scorer(spec, model) if spec in SCORERS else resolve(spec).family.load(model)
    window, seconds = Window(split_folder, users), dict[str, float]()
    with _timed(seconds, "score"):
        evaluation = window.measure(scorer)
    evaluation.save(folder)
    tracker.epoch(1, 1, {"ndcg_at_10": evaluation.metrics["ndcg_at_10"]})
    return {"metrics": dict(evaluation.metrics), "users": len(evaluation.users), "seconds": seconds["score"]}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 3)
