"""Titles held out whole, in several draws: the content tower against what text can do without a network.

Of each draw three tenths are for choosing (epochs, penalties), seven tenths are reported on: they alone are ranked, for
every user who liked one of them. The autoencoder whose decoder rows a ridge foretells has not seen the cold titles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.bag import cold_per_user, train_bag
from benchmarks.quality.bench import Bench, Figures, together
from benchmarks.quality.sources import fingerprint
from recsys.artefacts import ArtefactRef
from recsys.bootstrap import paired_bootstrap
from recsys.cold_titles import ColdDraw, draw_cold, users_of
from recsys.config import ContentConfig
from recsys.content_baselines import (
    PENALTIES,
    TfidfNeighbours,
    TfidfRidge,
    fit_ridges,
    rated_titles,
    tfidf,
)
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.data.text import Documents, Vocabulary
from recsys.histories import Floats, Histories
from recsys.models.user_autoencoder import UserAutoencoder
from recsys.tracker import Tracker
from tasks.autoencoder import train_autoencoder

Scores = Callable[[Histories], Floats]
DRAWS = (0, 1, 2)
FRACTION = 0.1
HELD_BACK = 3
"""The window of cold titles' interactions: after test, so that nothing is fitted on it."""
TOWER = "content_cnn"
WORDS: Mapping[str, str] = {
    "random": "by lot",
    "tfidf_neighbours": "TF-IDF, nearest neighbours",
    "ridge_interactions": "ridge TF-IDF → interactions",
    "ridge_decoder": "ridge TF-IDF → decoder rows",
    "bag": "bag of the same tokens, same loss",
    TOWER: "content tower (CNN)",
}
RIDGES = ("ridge_interactions", "ridge_decoder")
METRICS = ("recall_at_20", "ndcg_at_10")


def cold(bench: Bench, name: str) -> Figures:
    """All draws of one dataset: means, intervals and the ratio to the best ridge."""
    split = bench.split(name)
    draws = together(*(partial(_one, bench, name, split, draw) for draw in DRAWS))
    return {"draws": len(DRAWS), "words": dict(WORDS), **pooled(draws, bench.seed)}


def _one(bench: Bench, name: str, split: ArtefactRef, draw: int) -> Figures:
    without = bench.derived(f"cold titles {draw}", split, partial(hold_back, draw=draw))
    autoencoder = bench.made("user_autoencoder", train_autoencoder, f"{name} cold {draw}", without)
    identity = {
        "split": split.digest,
        "autoencoder": autoencoder.digest,
        "draw": draw,
        "config": ContentConfig().model_dump(mode="json"),
        "code": fingerprint("recsys.content_copies", "recsys.models.user_autoencoder", "benchmarks.quality.bag"),
        "models": list(WORDS),
    }
    words = f"{name}: cold titles, draw {draw}"
    return bench.measured(words, identity, measure_draw, split.path, str(autoencoder.file("fit")), draw)


def hold_back(split: Split, draw: int) -> Split:
    """The split without the cold titles of a draw: what was test is there to stop on, the rest to learn from."""
    cold_items = _draw(split, draw)
    away = np.isin(split.interactions.item_nums, np.concatenate([cold_items.stop, cold_items.report]))
    part = np.where(away, HELD_BACK, np.where(np.asarray(split.part) == TEST, VALIDATION, TRAIN)).astype(np.int8)
    return replace(split, part=part)


def _draw(split: Split, draw: int) -> ColdDraw:
    return draw_cold(split.interactions, fraction=FRACTION, seed=draw)


def measure_draw(split_path: str, autoencoder: str, seed: int, *, tracker: Tracker) -> Figures:
    """Per-user figures of every model on one draw. Runs in a child."""
    split = Split.load(Path(split_path))
    draw, config = _draw(split, seed), ContentConfig()
    vocabulary = Vocabulary.train(split.titles, vocabulary_size=config.vocabulary_size, max_tokens=config.max_tokens)
    documents = vocabulary.encode(split.titles)
    rng = np.random.default_rng([seed, 0x107])
    lots = rng.random(split.interactions.n_items, np.float32)
    encoder = UserAutoencoder.load(Path(autoencoder))
    chosen: dict[str, Scores] = {
        "random": lambda histories: np.tile(lots, (histories.n_users, 1)),
        "tfidf_neighbours": _best(_neighbours(documents, draw), draw),
        "ridge_interactions": _best(_ridges(documents, draw), draw),
        "ridge_decoder": _best(_decoder_ridges(documents, encoder), draw),
        "bag": train_bag(documents, draw, embedding_size=config.output_size, seed=seed).scores,
        TOWER: _tower(vocabulary, documents, draw, config, seed, tracker),
    }
    users = users_of(draw.liked, draw.report)
    known, liked = draw.warm.select(users), draw.liked.select(users)
    found = {}
    for name, scores in chosen.items():
        per_user = cold_per_user(scores(known)[:, draw.report], liked, draw.report)
        found[name] = {metric: per_user[metric].tolist() for metric in METRICS}
    return {"users": users.tolist(), "titles": len(draw.report), "figures": found}


def _tower(
    vocabulary: Vocabulary, documents: Documents, draw: ColdDraw, config: ContentConfig, seed: int, tracker: Tracker
) -> Scores:
    from recsys.content_copies import DEFAULT_EPOCHS, settings_of
    from recsys.models.content_training import StopTitles, train_content_cnn

    training = train_content_cnn(
        vocabulary,
        documents,
        draw.warm,
        stop=StopTitles(draw.stop, draw.liked),
        epochs=config.epochs or DEFAULT_EPOCHS,
        **settings_of(config),
        device="cpu",
        precision="float32",
        seed=seed,
        tracker=tracker,
    )
    return training.model.scores


def _neighbours(documents: Documents, draw: ColdDraw) -> Iterator[Scores]:
    features, rated = tfidf(documents), rated_titles(draw.warm)
    return (TfidfNeighbours.fit(features, rated, k=k).scores for k in (20, 50, 100))


def _ridges(documents: Documents, draw: ColdDraw) -> Iterator[Scores]:
    features, rated = tfidf(documents), rated_titles(draw.warm)
    return (TfidfRidge.fit(features, rated, penalty=penalty).scores for penalty in PENALTIES)


def _decoder_ridges(documents: Documents, encoder: UserAutoencoder) -> Iterator[Scores]:
    """The autoencoder's decoder rows and biases foretold from text; users as it encodes them."""
    features, learned = tfidf(documents), np.flatnonzero(encoder.learned)
    targets = np.concatenate([encoder.title_vectors, encoder.title_bias[:, None]], axis=1)[learned]
    mean = targets.mean(axis=0)
    for ridge in fit_ridges(features[learned], (targets - mean).astype(np.float32), PENALTIES):
        rows = np.asarray(features @ ridge.weights + mean, np.float32)
        yield partial(_by_rows, encoder, rows)


def _by_rows(encoder: UserAutoencoder, rows: Floats, histories: Histories) -> Floats:
    return np.asarray(encoder.encode(histories) @ rows[:, :-1].T + rows[:, -1], np.float32)


def _best(options: Iterator[Scores], draw: ColdDraw) -> Scores:
    """The option that ranks the titles to stop on best."""
    users = users_of(draw.liked, draw.stop)
    known, liked = draw.warm.select(users), draw.liked.select(users)
    found: list[tuple[float, Scores]] = []
    for scores in options:
        per_user = cold_per_user(scores(known)[:, draw.stop], liked, draw.stop, ks=(100,))
        found.append((float(per_user["ndcg_at_100"].mean()), scores))
    return max(found, key=lambda pair: pair[0])[1]


def pooled(draws: Sequence[Figures], seed: int) -> dict[str, Any]:
    """Means over users of their means over draws, with intervals over users; and against the best ridge."""
    users = np.unique(np.concatenate([draw["users"] for draw in draws]))
    values = {
        (name, metric): _per_user(draws, users, name, metric) for name in draws[0]["figures"] for metric in METRICS
    }
    zeros = np.zeros(len(users), np.float32)
    best = {metric: max(RIDGES, key=lambda name: float(values[name, metric].mean())) for metric in METRICS}
    models = {
        name: {
            metric: {
                "interval": paired_bootstrap(values[name, metric], zeros, seed=seed).model_dump(),
                "against_ridge": paired_bootstrap(
                    values[name, metric], values[best[metric], metric], seed=seed
                ).model_dump(),
                "ratio": float(values[name, metric].mean() / values[best[metric], metric].mean()),
            }
            for metric in METRICS
        }
        for name in draws[0]["figures"]
    }
    return {
        "users": len(users),
        "titles": [draw["titles"] for draw in draws],
        "best_ridge": best,
        "models": models,
    }


def _per_user(draws: Sequence[Figures], users: np.ndarray[Any, Any], name: str, metric: str) -> Floats:
    table = np.full((len(draws), len(users)), np.nan)
    for row, draw in zip(table, draws, strict=True):
        row[np.searchsorted(users, draw["users"])] = draw["figures"][name][metric]
    return np.asarray(np.nanmean(table, axis=0), np.float32)
