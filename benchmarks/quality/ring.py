"""The ring: every model on every dataset, tuned on validation, measured once on test, held against the best rival.

The same pieces as ``marquee evaluate``, with the trainings shared among sections and run beside each other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.bench import Bench, Figures, together
from benchmarks.quality.datasets import DATASETS
from recsys.artefacts import ArtefactRef
from recsys.bootstrap import paired_bootstrap
from recsys.data.split import Split
from recsys.evaluation import Evaluation
from recsys.plugins import NamedFamily, resolve
from recsys.ring import compare_on
from recsys.ring_runs import FIT
from recsys.rivals import families_to_run
from tasks.measure import measure
from tasks.ring import AUTOENCODER, BLEND, NCF, Entry
from tasks.ring_costs import costs
from tasks.trained import Trained

NEURAL = tuple(f"benchmarks.rivals.{name}:FAMILY" for name in ("mult_vae", "recvae", "neumf", "sasrec", "gru4rec"))
KEPT = ("ndcg_at_10", "recall_at_20", "ndcg_at_100", "coverage_at_10", "gini_at_10", "cold_share_at_10")
"""Figures beside those with intervals."""


def ring(bench: Bench, name: str) -> Figures:
    """One dataset's ring: figures of every model, with intervals, differences, groups and costs."""
    split = bench.split(name)
    entries = _entries(bench, name, split)
    refs = together(*(partial(measured, bench, name, split, model, entry) for model, entry in entries.items()))
    evaluations = {model: Evaluation.load(Path(ref.path)) for model, ref in zip(entries, refs, strict=True)}
    compared = compare_on(Split.load(Path(split.path)), evaluations, seed=bench.seed)
    ncf, blend = (evaluations[model].per_user["ndcg_at_10"] for model in (NCF, BLEND))
    return {
        "dataset": name,
        "words": DATASETS[name].words,
        "rows": _rows(split),
        "compared": compared.model_dump(mode="json"),
        "metrics": {model: {key: each.metrics[key] for key in KEPT} for model, each in evaluations.items()},
        "costs": {model: _cost(model, entry, ref) for (model, entry), ref in zip(entries.items(), refs, strict=True)},
        "ncf_against_blend": paired_bootstrap(ncf, blend, seed=bench.seed).model_dump(),
    }


def measured(bench: Bench, name: str, split: ArtefactRef, model: str, entry: Entry) -> ArtefactRef:
    """A model's evaluation on the test window."""
    run = bench.training_run("measured", name, split)
    with bench.alone(f"measure {split.digest} {entry.model.digest} {model}"), bench.slot(f"{name}: measuring"):
        return measure(run, split, entry.model, model, entry.spec, entry.copy)


def _entries(bench: Bench, name: str, split: ArtefactRef) -> dict[str, Entry]:
    ordered = Split.load(Path(split.path)).interactions.ordered
    specs = [*families_to_run(bench.run("rivals").config.baselines, ordered=ordered)]
    specs += NEURAL if DATASETS[name].neural else ()
    rivals = [rival for rival in map(resolve, specs) if ordered or not rival.family.needs_order]

    def fitted(rival: NamedFamily) -> Entry:
        return Entry(rival.spec, bench.rival(name, split, rival.spec), FIT)

    def all_rivals() -> dict[str, Entry]:
        entries = together(*(partial(fitted, rival) for rival in rivals))
        return {rival.name: entry for rival, entry in zip(rivals, entries, strict=True)}

    entries, ours = together(all_rivals, lambda: _ours(bench, name, bench.trained(name, split)))
    return entries | ours


def _ours(bench: Bench, name: str, trained: Trained) -> dict[str, Entry]:
    """Our models, each with the parts that it is made from (their costs are its own)."""
    autoencoder, content, ncf = trained.autoencoder, trained.content, trained.ncf
    assert autoencoder is not None
    assert content is not None
    assert ncf is not None
    ordered = Split.load(Path(trained.split.path)).interactions.ordered
    towers = families_to_run(bench.run("rivals").config.baselines, ordered=ordered)
    closed_form = tuple(bench.rival(name, trained.split, tower) for tower in towers)
    parts = {AUTOENCODER: (autoencoder,), "content_cnn": (content,), "baselines": closed_form, NCF: (ncf,)}
    return {
        AUTOENCODER: Entry(AUTOENCODER, autoencoder, "fit", {AUTOENCODER: (autoencoder,)}),
        BLEND: Entry(BLEND, ncf, "measured", parts),
        NCF: Entry(NCF, ncf, "measured", parts),
    }


def _rows(split: ArtefactRef) -> dict[str, int]:
    """How much data there are: users and titles that have ratings, and the ratings."""
    interactions = Split.load(Path(split.path)).interactions
    return {
        "users": int((interactions.lengths > 0).sum()),
        "titles": len(np.unique(interactions.item_nums)),
        "ratings": len(interactions.item_nums),
    }


def _cost(model: str, entry: Entry, evaluation: ArtefactRef) -> dict[str, Any]:
    found = costs(model, entry, evaluation)
    seconds, peaks = found["seconds"], found["peak_rss_bytes"]
    tuning, fitting = seconds.get("tune"), seconds.get("fit")
    return {
        "tried": 1 if found["tried"] is None else len(found["tried"]),
        "params": None if found["tried"] is None else found["params"],
        "seconds": None if fitting is None else round((tuning or 0) + fitting, 1),
        "peak_mb": round(max(peak for peak in peaks.values() if peak) / 1e6) if any(peaks.values()) else None,
    }
