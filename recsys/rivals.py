"""The closed-form rivals as a ring: each family's grid, its tuning on the validation window, fitting, loading.

Every family gets a grid of about the same size. :class:`Family` is also what a model brought from elsewhere offers
(:mod:`recsys.plugins`). Knows nothing of the test window, which tuning must not touch.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artefacts import write_text
from recsys.config import BaselinesConfig
from recsys.cooccurrence import counts, covered_titles, gram_blocks, sample_users
from recsys.coverage import coverage, say_coverage
from recsys.data.split import VALIDATION, Split
from recsys.errors import ConfigError, TrainingError
from recsys.evaluation import evaluate
from recsys.histories import Histories, evenly_spaced
from recsys.models.baselines import Ials, ItemKnn, Popularity, RecentPopularity
from recsys.models.linear import Ease, EaseStatistics, OrderAwareRidge, RidgeStatistics
from recsys.scoring import Scorer
from recsys.tracker import Tracker

_DONE = "done.json"  # beside a family's copies until all are made: what ``baselines.json`` will say of it

Params = dict[str, Any]
Settings = Iterator[tuple[Params, Scorer]]

TUNING_USERS = 1_500
"""Users on whom settings are compared (all settings on the same ones)."""
TUNING_ITEMS = 2_500
"""Titles of the dense models while they are tuned: what is best hardly depends on the tail."""
TUNING_FITS = 6_000
"""Users that iALS is fitted on while it is tuned."""
TUNING_INTERACTIONS = 1_000_000
"""The ridge and recent popularity are tuned on evenly spaced users who have about so many interactions: a service of
25 million in the time of one of a million. EASE and item-kNN count on all: that is cheap, and EASE's best l2 grows with
the data."""
DENSE_TITLES, DENSE_GROWTH = 4_000, 60
"""A dense model covers so many titles, or so many for every cube root of the liked interactions where those are more:
what the cube of the titles costs then grows no faster than the data. More bring little: decision 0010."""
SPARSE_TITLES = 200_000
"""Titles of item-kNN: it has no dense matrix."""
TRAININGS = 6
"""Settings tried of a family that trains with early stopping, where no budget is given."""
ALWAYS = ("popularity", "ease", "order_ridge")
"""The floor, and the towers of the second stage."""


@dataclass(frozen=True)
class Family:
    """One kind of model: how to fit it with given parameters, and a grid fitted with what its settings share."""

    fit: Callable[[Histories, Params, int, int], Scorer]
    """(histories, parameters, max_items, seed) to a scorer. With no parameters it has defaults of its own."""
    load: Callable[[Path], Scorer]
    grid: Callable[..., Settings]
    """(histories, seed) to settings and their scorers, the most promising first: a budget may cut it short."""
    needs_order: bool = False
    validated: bool = False
    """Trained with early stopping: its grid also takes ``validation=(known, wanted)``, histories of the same users,
    and every setting that it yields holds the best ``epochs`` already."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    params: Params
    validation: Mapping[str, float]
    """Figures of the chosen setting."""
    tried: tuple[tuple[Params, float], ...]
    """Every setting with its NDCG@10."""

    def report(self) -> dict[str, Any]:
        """As ``baselines.json`` holds it."""
        return {
            "params": self.params,
            "validation": dict(self.validation),
            "tried": [{"params": params, "ndcg_at_10": value} for params, value in self.tried],
        }


def _popularity_grid(histories: Histories, seed: int) -> Settings:
    yield {}, Popularity.fit(histories)


def _recent_popularity_grid(histories: Histories, seed: int) -> Settings:
    sample = sample_users(histories, TUNING_INTERACTIONS)
    for half_life in (0.01, 0.03, 0.1, 0.3, 1.0):
        yield {"half_life": half_life}, RecentPopularity.fit(sample, half_life)


def _item_knn_grid(histories: Histories, seed: int) -> Settings:
    liked = histories.positives()
    item_nums = covered_titles(liked, TUNING_ITEMS)
    together = list(gram_blocks(liked.matrix()[:, item_nums]))
    for neighbours, shrinkage in product((150, 50, 400), (10.0, 0.0, 50.0)):
        params = {"neighbours": neighbours, "shrinkage": shrinkage}
        yield params, ItemKnn.of_gram(together, liked, item_nums, neighbours=neighbours, shrinkage=shrinkage)


def _ease_grid(histories: Histories, seed: int) -> Settings:
    for row_power in (0.0, 0.25):
        statistics = EaseStatistics.of(histories, row_power=row_power, max_items=TUNING_ITEMS)
        for l2 in (250.0, 100.0, 600.0, 30.0, 1500.0):
            yield {"l2": l2, "row_power": row_power}, Ease.solve(statistics, l2=l2)


def _ease_recency_grid(histories: Histories, seed: int) -> Settings:
    statistics = EaseStatistics.of(histories, max_items=TUNING_ITEMS)
    for l2 in (150.0, 500.0, 50.0, 1500.0):
        ease = Ease.solve(statistics, l2=l2)
        for tau in (5.0, 12.0, 40.0):
            yield {"l2": l2, "tau": tau}, Ease(ease.weights, ease.item_nums, ease.popularity, tau)


def _ials_grid(histories: Histories, seed: int) -> Settings:
    sample = _sample(histories, TUNING_FITS)
    pairs = [
        (1.5, 2.0),
        (1.5, 5.0),
        (1.5, 12.0),
        (4.0, 10.0),
        (4.0, 30.0),
        (12.0, 30.0),
        (12.0, 90.0),
        (30.0, 80.0),
        (30.0, 200.0),
    ]
    for alpha, l2 in pairs:
        yield {"alpha": alpha, "l2": l2}, Ials.fit(sample, embedding_size=64, alpha=alpha, l2=l2, epochs=8, seed=seed)


def _ials_recency_grid(histories: Histories, seed: int) -> Settings:
    sample = _sample(histories, TUNING_FITS)
    for alpha, l2 in ((4.0, 20.0), (12.0, 50.0), (30.0, 120.0)):
        model = Ials.fit(sample, embedding_size=64, alpha=alpha, l2=l2, epochs=8, seed=seed)
        for tau in (8.0, 25.0, 80.0):
            scorer = Ials(model.factors, model.item_nums, model.popularity, alpha, l2, tau)
            yield {"alpha": alpha, "l2": l2, "tau": tau}, scorer


def _order_ridge_grid(histories: Histories, seed: int) -> Settings:
    sample = sample_users(histories, TUNING_INTERACTIONS)
    for tau in (8.0, 4.0, 16.0):
        statistics = RidgeStatistics.of(sample, tau=tau, max_items=TUNING_ITEMS)
        for l2 in (1000.0, 300.0, 3000.0):
            yield {"tau": tau, "l2": l2}, OrderAwareRidge.solve(statistics, l2=l2)


def _fit_ials(histories: Histories, params: Params, max_items: int, seed: int) -> Scorer:
    size = 64 if len(histories.item_nums) < 200_000 else 128
    return Ials.fit(histories, **{"embedding_size": size, **params}, seed=seed)


def _worth(histories: Histories, max_items: int) -> int:
    """How many titles are worth modelling: a single interaction teaches nothing of a pair."""
    return max(1, min(max_items, int((counts(histories.positives()) > 1).sum())))


def _dense(histories: Histories, max_items: int) -> int:
    """How many titles a dense model covers: those worth it, that the interactions pay for."""
    liked = int(histories.positive.sum())
    return _worth(histories, min(max_items, max(DENSE_TITLES, int(DENSE_GROWTH * np.cbrt(liked)))))


FAMILIES: Mapping[str, Family] = {
    "popularity": Family(lambda h, params, m, s: Popularity.fit(h), Popularity.load, _popularity_grid),
    "recent_popularity": Family(
        lambda h, params, m, s: RecentPopularity.fit(h, **params), RecentPopularity.load, _recent_popularity_grid, True
    ),
    "item_knn": Family(
        lambda h, params, m, s: ItemKnn.fit(h, **params, max_items=_worth(h, SPARSE_TITLES)),
        ItemKnn.load,
        _item_knn_grid,
    ),
    "ease": Family(lambda h, params, m, s: Ease.fit(h, **params, max_items=_dense(h, m)), Ease.load, _ease_grid),
    "ease_recency": Family(
        lambda h, params, m, s: Ease.fit(h, **params, max_items=_dense(h, m)), Ease.load, _ease_recency_grid, True
    ),
    "ials": Family(_fit_ials, Ials.load, _ials_grid),
    "ials_recency": Family(_fit_ials, Ials.load, _ials_recency_grid, True),
    "order_ridge": Family(
        lambda h, params, m, s: OrderAwareRidge.fit(h, **params, max_items=_dense(h, m)),
        OrderAwareRidge.load,
        _order_ridge_grid,
        True,
    ),
}


def family(name: str) -> Family:
    """The family of this name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"{name!r} is not a baseline", where="[baselines] models", remedy=f"{hint}known are {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def fit_family(
    name: str, params: Mapping[str, Any], histories: Histories, *, max_items: int = 8_000, seed: int = 0
) -> Scorer:
    """Fit one family with given parameters, such as tuning chose."""
    return family(name).fit(histories, dict(params), max_items, seed)


def load_family(name: str, folder: Path) -> Scorer:
    """Load a model of this family from where it was saved."""
    return family(name).load(folder)


def families_to_run(config: BaselinesConfig, *, ordered: bool) -> tuple[str, ...]:
    """The configured families and those that always run, less those that need an order where there is none."""
    asked = {name: family(name) for name in (*ALWAYS, *config.models)}
    return tuple(name for name in FAMILIES if name in asked and (ordered or not asked[name].needs_order))


def tune(
    which: str | Family,
    histories: Histories,
    targets: Histories,
    *,
    known: Histories | None = None,
    budget: int | None = None,
    seed: int = 0,
) -> Tuned:
    """Choose a family's parameters by NDCG@10 on the validation window (never the test window).

    Settings are compared on the same users, at most :data:`TUNING_USERS` of those who have targets. The first of
    equals wins. Where nobody has a target (a handful of ratings), the models' own defaults stand: no parameters.

    Args:
        which: the family, or its name.
        histories: what settings are fitted on.
        targets: what should be foretold; the same users.
        known: what is read of these users; None: ``histories``.
        budget: most settings tried; None: all, of a family that trains with early stopping :data:`TRAININGS`.
        seed: of what is drawn.
    """
    kind = family(which) if isinstance(which, str) else which
    measured = evenly_spaced(np.flatnonzero(targets.lengths > 0), TUNING_USERS)
    if not len(measured):
        return Tuned({}, {}, ())
    read, wanted = (histories if known is None else known).select(measured), targets.select(measured)
    grid = kind.grid(histories, seed, validation=(read, wanted)) if kind.validated else kind.grid(histories, seed)
    tried: list[tuple[Params, float]] = []
    best: tuple[Params, Mapping[str, float]] | None = None
    for params, scorer in islice(grid, budget or (TRAININGS if kind.validated else None)):
        figures = evaluate(scorer, read, wanted, ks=(10, 20)).metrics
        tried.append((params, figures["ndcg_at_10"]))
        if best is None or figures["ndcg_at_10"] > best[1]["ndcg_at_10"]:
            best = (params, {key: figures[key] for key in ("ndcg_at_10", "recall_at_20")})
    if best is None:
        raise TrainingError(f"the grid of {which!r} is empty", remedy="let it yield at least one setting")
    return Tuned(*best, tuple(tried))


def _sample(histories: Histories, most: int) -> Histories:
    users = np.arange(histories.n_users)
    return histories if len(users) <= most else histories.select(evenly_spaced(users, most))


def fit_rivals(split: Split, folder: Path, config: BaselinesConfig, *, seed: int, tracker: Tracker) -> dict[str, Any]:
    """Tune every family on the validation window and fit it twice with the setting chosen.

    Writes ``<family>/train`` (fitted on the train window, for the second stage to learn from), ``<family>/fit`` (on
    train and validation, to be compared on test) and ``baselines.json``: by family the parameters, the validation
    figures, every setting tried, and what the model covers (see :func:`coverage`).

    What a killed process finished in ``folder``, family by family, is used.

    Returns:
        Parameters, validation figures, coverage and seconds by family.

    Raises:
        ConfigError: a configured family does not exist.
    """
    known, targets = split.known(VALIDATION), split.targets(VALIDATION)
    windows = {"train": split.train, "fit": split.fit}
    names = families_to_run(config, ordered=known.ordered)
    report: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for number, name in enumerate(names, start=1):
        done = folder / name / _DONE
        if not done.exists():
            began = time.monotonic()
            made = _fit_rival(name, windows, known, targets, folder / name, config, seed)
            write_text(done, json.dumps({"report": made, "seconds": round(time.monotonic() - began, 2)}) + "\n")
        held = json.loads(done.read_text(encoding="utf-8"))
        report[name], seconds[name] = held["report"], held["seconds"]
        validation = report[name]["validation"]
        tracker.epoch(number, len(names), {f"{name}_{metric}": value for metric, value in validation.items()})
        say_coverage(name, report[name]["covered"], tracker)
    write_text(folder / "baselines.json", json.dumps(report, indent=1) + "\n")
    for name in names:
        (folder / name / _DONE).unlink()  # seconds are in no file that stays: bytes shall not depend on the clock
    return {
        name: {**{key: entry[key] for key in ("params", "validation", "covered")}, "seconds": seconds[name]}
        for name, entry in report.items()
    }


def fit_rivals_of(
    split_folder: Path, folder: Path, config: BaselinesConfig, *, seed: int, tracker: Tracker
) -> dict[str, Any]:
    """:func:`fit_rivals` on the split that lies in ``split_folder``: what the baselines' process runs."""
    return fit_rivals(Split.load(split_folder), folder, config, seed=seed, tracker=tracker)


def _fit_rival(
    name: str,
    windows: Mapping[str, Histories],
    known: Histories,
    targets: Histories,
    folder: Path,
    config: BaselinesConfig,
    seed: int,
) -> dict[str, Any]:
    """Tune a family and save a copy for each window; what ``baselines.json`` says of it."""
    tuned = tune(name, windows["train"], targets, known=known, seed=seed)
    covered = None
    for copy, histories in windows.items():
        scorer = fit_family(name, tuned.params, histories, max_items=config.max_items, seed=seed)
        scorer.save(folder / copy)
        covered = coverage(scorer, histories)
        del scorer  # the next one is as large
    return {**tuned.report(), "covered": covered}


def chosen_params(folder: Path, name: str) -> Params:
    """The parameters that tuning chose for a family, from ``baselines.json`` under ``folder``."""
    report: dict[str, Any] = json.loads((folder / "baselines.json").read_text(encoding="utf-8"))
    return dict(report[name]["params"])
