"""What each part of NCF brings: the whole model against itself without one part, paired on the test users.

Every variant is trained like the whole: on what came after the train window, over the same towers. Where a part of the
first stage is left out, it is left out of both copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.quality.bench import Bench, Figures, together
from benchmarks.quality.sources import fingerprint
from recsys import columns
from recsys.bootstrap import paired_bootstrap
from recsys.config import NcfConfig
from recsys.data.split import TEST, VALIDATION, Split
from recsys.evaluation import evaluate
from recsys.scoring import Scorer
from recsys.tracker import Tracker
from recsys.two_stage_copies import CLOSED_FORM, Parts
from tasks.trained import Trained

WHOLE = "whole"
SEEDS = (0, 1, 2)
METRICS = ("ndcg_at_10", "recall_at_20")
CONTENT = "content_cnn"
TEXT = (columns.YEAR, columns.GENRES, columns.CAST, columns.DIRECTORS, columns.TAGS, columns.PLOT)


@dataclass(frozen=True)
class Variant:
    """NCF without something."""

    words: str
    ncf: Mapping[str, Any] | None = None
    """Changes of the configuration."""
    towers: tuple[str, ...] = ()
    """Towers left out."""
    text: bool = True
    """Whether it may know what titles are about."""
    order: bool = True
    """False: the whole chain, from the autoencoder on, over histories without time."""
    stacked: bool = True
    """False: it learns on scores of towers that have seen what it shall foretell."""


VARIANTS: Mapping[str, Variant] = {
    WHOLE: Variant("NCF, whole"),
    "vectors": Variant("without the vectors (no GMF, none in the MLP)", ncf={"without": ("vectors",)}),
    "content": Variant("without content (no CNN, no genres, years, people)", towers=(CONTENT,), text=False),
    "order": Variant("without order (all towers and features without time)", order=False),
    "mlp": Variant("without the MLP (linear over the features, and GMF)", ncf={"without": ("mlp",)}),
    "linear": Variant("without the linear towers (no ridge, EASE, iALS)", towers=CLOSED_FORM),
    "stacking": Variant("without stacking (towers have seen its targets)", stacked=False),
    "bce": Variant("binary cross-entropy in place of softmax", ncf={"loss": "bce"}),
    "towers": Variant("without NCF (the blend of its towers)"),
}


def ablation(bench: Bench, name: str) -> Figures:
    """All variants on one dataset, over several seeds of the second stage."""
    split = bench.split(name)
    unordered = bench.derived("without order", split, without_order)
    ordered = Split.load(Path(split.path)).interactions.ordered
    variants = {key: each for key, each in VARIANTS.items() if key != "towers" and (ordered or each.order)}
    trained = bench.towers(name, split)
    timeless = bench.towers(f"{name} without order", unordered) if ordered else trained

    def of(key: str, seed: int) -> Figures:
        base = trained if variants[key].order else timeless
        return _measured(bench, name, base, key, seed)

    tasks = [(key, seed) for seed in SEEDS for key in variants]
    found = dict(zip(tasks, together(*(partial(of, *task) for task in tasks)), strict=True))
    figures = {key: _mean([found[key, seed]["ncf"] for seed in SEEDS]) for key in variants}
    figures["towers"] = _mean([found[WHOLE, seed]["blend"] for seed in SEEDS])
    return {"seeds": len(SEEDS), "users": len(figures[WHOLE]["ndcg_at_10"]), "variants": _against(figures, bench.seed)}


def without_order(split: Split) -> Split:
    """The same windows of the same interactions, with no order within a history."""
    histories = split.interactions
    place = np.lexsort((histories.item_nums, histories.user_nums))  # as Histories.unordered sorts
    return replace(split, interactions=histories.unordered(), part=np.asarray(split.part)[place])


def _measured(bench: Bench, name: str, trained: Trained, key: str, seed: int) -> Figures:
    assert trained.autoencoder is not None
    assert trained.content is not None
    assert trained.baselines is not None
    parts = (trained.autoencoder, trained.content, trained.baselines)
    identity = {
        "variant": key,
        "definition": str(VARIANTS[key]),
        "seed": seed,
        "split": trained.split.digest,
        "parts": [ref.digest for ref in parts],
        "code": fingerprint("recsys.two_stage_copies", "recsys.families", "recsys.evaluation"),
        "config": NcfConfig().model_dump(mode="json"),
    }
    words = f"{name}: {VARIANTS[key].words}, seed {seed}"
    return bench.measured(words, identity, train_variant, trained.split.path, *(ref.path for ref in parts), key, seed)


def train_variant(
    split_path: str, autoencoder: str, content: str, baselines: str, key: str, seed: int, *, tracker: Tracker
) -> Figures:
    """Train a variant and measure it: per-user test figures of NCF and of its first stage. Runs in a child."""
    from recsys.two_stage import train_two_stage

    variant, split = VARIANTS[key], Split.load(Path(split_path))
    parts = Parts(Path(autoencoder), Path(content), Path(baselines), len(split.items))
    titles = split.titles if variant.text else without_text(split.titles)
    config = NcfConfig(**(variant.ncf or {}))
    lesson = parts.towers("train" if variant.stacked else "fit")
    model = train_two_stage(
        _less(lesson, variant), split.train, split.targets(VALIDATION), titles, config, seed=seed, tracker=tracker
    ).over(_less(parts.towers("fit"), variant), split.fit, titles)
    measured: dict[str, Scorer] = {"ncf": model}
    if key == WHOLE:
        measured["blend"] = model.copy.blend
    return {stage: _per_user(scorer, split) for stage, scorer in measured.items()}


def without_text(titles: pa.Table) -> pa.Table:
    """The catalogue with nothing told of any title."""
    for name in TEXT:
        kind = columns.TITLES.field(name).type
        empty: Any = [] if pa.types.is_list(kind) else None
        column = pa.array([empty] * titles.num_rows, kind)
        titles = titles.set_column(titles.schema.get_field_index(name), columns.TITLES.field(name), column)
    return titles


def _less(towers: Mapping[str, Scorer], variant: Variant) -> dict[str, Scorer]:
    return {name: tower for name, tower in towers.items() if name not in variant.towers}


def _per_user(scorer: Scorer, split: Split) -> dict[str, list[float]]:
    evaluation = evaluate(scorer, split.known(TEST), split.targets(TEST), ks=(10, 20))
    return {metric: evaluation.per_user[metric].tolist() for metric in METRICS}


def _mean(runs: list[dict[str, list[float]]]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Every user's figures, averaged over seeds."""
    return {metric: np.mean([run[metric] for run in runs], axis=0) for metric in METRICS}


def _against(figures: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Each variant's means, and what it loses against the whole."""
    whole = figures[WHOLE]
    return {
        key: {
            "words": VARIANTS[key].words,
            **{metric: float(found[metric].mean()) for metric in METRICS},
            **{
                f"{metric}_difference": paired_bootstrap(found[metric], whole[metric], seed=seed).model_dump()
                for metric in METRICS
            },
        }
        for key, found in figures.items()
    }
