"""New users: how good lists are after 1, 3, 5 and 10 ratings of somebody on whom no model was fitted.

A quarter of the users is held out whole; the models are fitted on the others. What is to be foretold is the same at
every point of the curve: what the user liked after the tenth rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.bench import Bench, Figures
from benchmarks.quality.cold import HELD_BACK
from benchmarks.quality.sources import fingerprint
from recsys.bootstrap import paired_bootstrap
from recsys.config import ExportConfig
from recsys.cooccurrence import counts
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.evaluation import evaluate
from recsys.fallback import Fallback
from recsys.families import load_scorer
from recsys.histories import Floats, Histories
from recsys.recommend import served_scores
from recsys.scoring import Scorer
from recsys.tracker import Tracker
from tasks.trained import NCF

AFTER = (1, 3, 5, 10)
SHARE = 0.25
SERVED = "served"
"""NCF as its lists are made: leaning on popularity while little is known."""
MODELS = ("popularity", "item_knn", "ease", "user_autoencoder", "blend", "ncf")
RIVALS = ("popularity", "item_knn", "ease")
METRIC = "ndcg_at_10"


def new_users(bench: Bench, name: str) -> Figures:
    """The curves of one dataset, with intervals."""
    base = bench.split(name)
    split = bench.derived("a quarter of the users held out", base, hold_out_users)
    trained = bench.trained(f"{name} new users", split)
    places = {model: (family, str(folder)) for model, family, folder in trained.fitted() if model in MODELS}
    identity = {
        "trained": [ref.digest for _, ref in trained if ref is not None],
        "after": AFTER,
        "models": (*MODELS, SERVED),
        "min_history": ExportConfig().min_history,
        "code": fingerprint("recsys.evaluation", "recsys.families", "recsys.recommend"),
    }
    found = bench.measured(f"{name}: new users", identity, measure_curves, split.path, places)
    return _intervals(found, bench.seed)


def hold_out_users(split: Split) -> Split:
    """The split without a quarter of the users, drawn by lot; the others' test window is there to stop on."""
    n_users = split.interactions.n_users
    away = np.random.default_rng(0xFEED).permutation(n_users) < round(SHARE * n_users)
    known = np.where(np.asarray(split.part) == TEST, VALIDATION, TRAIN)
    return replace(split, part=np.where(away[split.interactions.user_nums], HELD_BACK, known).astype(np.int8))


def measure_curves(split_path: str, places: Mapping[str, tuple[str, str]], *, tracker: Tracker) -> Figures:
    """Per-user NDCG@10 by model and number of ratings. Runs in a child."""
    split = Split.load(Path(split_path))
    away = np.unique(split.interactions.user_nums[np.asarray(split.part) == HELD_BACK])
    histories = split.interactions.select(away)
    wanted = after_the_first(histories, max(AFTER))
    cold = counts(split.fit) == 0
    found: dict[str, dict[str, list[float]]] = {}
    scorers: dict[str, Any] = {model: load_scorer(family, Path(folder)) for model, (family, folder) in places.items()}
    scorers[SERVED] = Served.of(scorers[NCF], split)
    for model, scorer in scorers.items():
        found[model] = {
            str(n): evaluate(scorer, first(histories, n), wanted, ks=(10, 20), cold=cold).per_user[METRIC].tolist()
            for n in AFTER
        }
    return found


@dataclass(frozen=True)
class Served:
    """A model with the fallback that its lists are made with."""

    scorer: Scorer
    fallback: Fallback

    @classmethod
    def of(cls, scorer: Scorer, split: Split) -> Served:
        """The fallback as the night has it, from what the model was fitted on."""
        return cls(scorer, Fallback.of(split.fit))

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return self.scorer.n_items

    def scores(self, histories: Histories) -> Floats:
        """[n_users, n_items]"""
        return served_scores(self.scorer, histories, self.fallback, ExportConfig().min_history)[0]


def first(histories: Histories, n: int) -> Histories:
    """Everybody's first ``n`` interactions."""
    return histories.where(_places(histories) < n)


def after_the_first(histories: Histories, n: int) -> Histories:
    """What everybody liked after the first ``n`` interactions."""
    return histories.where((_places(histories) >= n) & histories.positive)


def _places(histories: Histories) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(len(histories.item_nums)) - np.repeat(histories.indptr[:-1], histories.lengths)


def _intervals(found: Mapping[str, Mapping[str, list[float]]], seed: int) -> Figures:
    arrays = {model: {n: np.array(values, np.float32) for n, values in own.items()} for model, own in found.items()}
    users = len(next(iter(arrays[NCF].values())))
    zeros = np.zeros(users, np.float32)
    curves = {
        model: {n: paired_bootstrap(values, zeros, seed=seed).model_dump() for n, values in own.items()}
        for model, own in arrays.items()
    }
    against = {}
    for n in map(str, AFTER):
        rival = max(RIVALS, key=lambda model: float(arrays[model][n].mean()))
        interval = paired_bootstrap(arrays[SERVED][n], arrays[rival][n], seed=seed)
        against[n] = {"rival": rival, **interval.model_dump()}
    return {"users": users, "curves": curves, "served_against_best_rival": against}
