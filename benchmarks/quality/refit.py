"""Is what serves as good as what was measured? The night's own chain, checked on a window that it never saw.

The last tenth of every user's ratings is kept from the whole night. The night then splits the rest, trains, measures
and refits on all that it has; the copy that was measured and the copy that would serve are both asked for lists, with
the same histories, and compared on the last tenth.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.quality.bench import Bench, Figures
from benchmarks.quality.sources import fingerprint
from recsys.bootstrap import paired_bootstrap
from recsys.data.split import TEST, TRAIN, VALIDATION, Split, first_share
from recsys.evaluation import evaluate
from recsys.families import load_scorer
from recsys.histories import Bools
from recsys.tracker import NullTracker, Tracker
from tasks.serving import serving_copy
from tasks.trained import AUTOENCODER, NCF, Trained

LATER = 0.1
FAMILIES = (NCF, AUTOENCODER, "ease", "order_ridge")
METRICS = ("ndcg_at_10", "recall_at_20")


def refit(bench: Bench, name: str) -> Figures:
    """One dataset: both copies of several families on the later window."""
    base = bench.split(name)
    split = bench.derived("the last tenth away", base, without_later)
    trained = bench.trained(f"{name} refit", split)
    serving = (
        bench.home / "serving" / f"{split.digest[:12]}-{fingerprint('recsys.two_stage_copies', 'recsys.families')}"
    )
    _serve(bench, name, trained, serving)
    measured = {model: (family, str(folder)) for model, family, folder in trained.fitted() if model in FAMILIES}
    identity = {
        "trained": [ref.digest for _, ref in trained if ref is not None],
        "serving": str(serving),
        "families": FAMILIES,
        "code": fingerprint("recsys.evaluation", "recsys.families"),
    }
    found = bench.measured(f"{name}: refit", identity, measure_copies, base.path, measured, str(serving))
    return _intervals(found, bench.seed)


def is_later(split: Split) -> Bools:
    """Which interactions of a split are the last tenth of their user's, [n]."""
    lengths = split.interactions.lengths
    place = np.arange(len(split.part)) - np.repeat(split.interactions.indptr[:-1], lengths)
    return np.asarray(place >= np.repeat(first_share(lengths, 1 - LATER), lengths))


def without_later(split: Split) -> Split:
    """A split as a night makes it, of all but the last tenth: test is the last fifth of that, validation before it."""
    histories = split.interactions.where(~is_later(split))
    n_fit = first_share(histories.lengths, 0.8)
    place = np.arange(len(histories.item_nums)) - np.repeat(histories.indptr[:-1], histories.lengths)
    train, fit = (place < np.repeat(n, histories.lengths) for n in (first_share(n_fit, 0.8), n_fit))
    part = np.where(train, TRAIN, np.where(fit, VALIDATION, TEST)).astype(np.int8)
    return replace(split, interactions=histories, part=part)


def _serve(bench: Bench, name: str, trained: Trained, folder: Path) -> None:
    """Make the serving copies, each once."""
    split = Split.load(Path(trained.split.path))
    for family in FAMILIES:
        done = folder / family
        with bench.alone(str(done)):
            if done.is_dir():
                continue
            run = bench.training_run("ncf", f"{name}-serving", trained.split)
            with bench.slot(f"{name}: serving copy of {family}"):
                scorer = serving_copy(run, trained, split, family, NullTracker())
            draft = done.with_name(f"{family}.tmp")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            scorer.save(draft)
            draft.rename(done)


def measure_copies(base: str, measured: dict[str, tuple[str, str]], serving: str, *, tracker: Tracker) -> Figures:
    """Per-user figures of both copies on the later window. Runs in a child."""
    split = Split.load(Path(base))
    later = is_later(split)
    known, wanted = split.interactions.where(~later), split.interactions.where(later & split.interactions.positive)
    found: Figures = {}
    for name, (family, folder) in measured.items():
        for copy, place in (("measured", Path(folder)), ("serving", Path(serving) / name)):
            per_user = evaluate(load_scorer(family, place), known, wanted, ks=(10, 20)).per_user
            found.setdefault(name, {})[copy] = {metric: per_user[metric].tolist() for metric in METRICS}
    return found


def _intervals(found: Figures, seed: int) -> Figures:
    families = {}
    for name, copies in found.items():
        arrays = {copy: {m: np.array(v, np.float32) for m, v in own.items()} for copy, own in copies.items()}
        difference = partial(paired_bootstrap, seed=seed)
        families[name] = {
            metric: {
                **{copy: float(own[metric].mean()) for copy, own in arrays.items()},
                "gain": difference(arrays["serving"][metric], arrays["measured"][metric]).model_dump(),
            }
            for metric in METRICS
        }
    return {"users": len(found[NCF]["serving"][METRICS[0]]), "families": families}
