"""New users: how good lists are after 1, 3, 5 and 10 ratings of somebody on whom no model was fitted.

A quarter of the users is held out whole; the models are fitted on the others. What is to be foretold is the same at
every point of the curve: what the user liked after the tenth rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.bench import Bench, Figures
from benchmarks.quality.cold import HELD_BACK
from benchmarks.quality.sources import fingerprint
from recsys.bootstrap import paired_bootstrap
from recsys.cooccurrence import counts
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.evaluation import evaluate
from recsys.families import load_scorer
from recsys.histories import Histories
from recsys.tracker import Tracker
from tasks.trained import NCF

AFTER = (1, 3, 5, 10)
SHARE = 0.25
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
        "models": MODELS,
        "code": fingerprint("recsys.evaluation", "recsys.families"),
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
    for model, (family, folder) in places.items():
        scorer = load_scorer(family, Path(folder))
        found[model] = {
            str(n): evaluate(scorer, first(histories, n), wanted, ks=(10, 20), cold=cold).per_user[METRIC].tolist()
            for n in AFTER
        }
    return found


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
        interval = paired_bootstrap(arrays[NCF][n], arrays[rival][n], seed=seed)
        against[n] = {"rival": rival, **interval.model_dump()}
    return {"users": users, "curves": curves, "ncf_against_best_rival": against}
