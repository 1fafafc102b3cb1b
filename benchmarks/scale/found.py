"""What our trainers and the references find on a small service: NDCG@10 on the window after, all titles ranked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from benchmarks.scale.histories import cut, read_ratings
from benchmarks.scale.references import (
    MultVae,
    NeuMf,
    Samples,
    mult_vae_scores,
    mult_vae_steps,
    neumf_scores,
    neumf_steps,
    until_no_better,
)
from recsys import columns
from recsys.config import AutoencoderConfig, NcfConfig
from recsys.histories import Histories
from recsys.models.autoencoder_training import AutoencoderSettings, resolve, train_user_autoencoder
from recsys.models.user_autoencoder import UserAutoencoder
from recsys.pairs import ndcg_at_10
from recsys.rivals import fit_family
from recsys.tracker import NullTracker
from recsys.two_stage import train_two_stage

PATIENCE, SECONDS = 6, 45.0
"""Epochs without a better figure after which a reference stops, and the most processor time it gets."""
NEUMF_BATCH = 1_024
"""The largest of the paper: the larger steps that it is timed with would find less."""
Figures = dict[str, Any]


def found_by_both(data: tuple[str, Path]) -> dict[str, Figures]:
    """Ours and the reference's figures, by trainer.

    Args:
        data: its name, and a ratings file in MovieLens' layout.
    """
    name, path = data
    known, wanted = cut(read_ratings(path))
    settings = settings_of(known)
    model, ours = _autoencoder(known, wanted, settings)
    second = _two_stage(model, known, wanted)
    return {
        "user autoencoder": {"data": name, "ours": ours, "reference": _mult_vae(known, wanted, settings)},
        "NCF": {"data": name, "ours": second, "reference": _neumf(known, wanted, settings.embedding_size)},
    }


def settings_of(known: Histories) -> AutoencoderSettings:
    """The autoencoder's settings for these histories, as a night resolves them."""
    liked = known.positives()
    return resolve(
        AutoencoderConfig(),
        n_users=int((liked.lengths > 1).sum()),
        n_items=known.n_items,
        n_interactions=len(liked.item_nums),
        ordered=known.ordered,
    )


def ndcg(scores: NDArray[np.float32], known: Histories, wanted: Histories) -> float:
    """Mean NDCG@10 of dense scores [n_users, n_items] over the users who wanted something, known titles left out."""
    scores[known.user_nums, known.item_nums] = -np.inf
    goals = np.zeros(scores.shape, np.bool_)
    goals[wanted.user_nums, wanted.item_nums] = True
    users = np.flatnonzero(wanted.lengths > 0)
    return float(ndcg_at_10(scores[users], goals[users], wanted.lengths[users]).mean())


def _autoencoder(known: Histories, wanted: Histories, settings: AutoencoderSettings) -> tuple[UserAutoencoder, Figures]:
    began = time.process_time()
    trained = train_user_autoencoder(
        known, settings=settings, validation=(known, wanted), device="cpu", seed=0, tracker=NullTracker()
    )
    seconds = time.process_time() - began
    figure = ndcg(trained.model.scores(known), known, wanted)
    return trained.model, {"ndcg_at_10": figure, "epoch": trained.best_epoch, "seconds": seconds}


def _mult_vae(known: Histories, wanted: Histories, settings: AutoencoderSettings) -> Figures:
    torch.manual_seed(0)
    matrix, rng = known.positives().matrix(), np.random.default_rng(0)
    model = MultVae(known.n_items, settings.hidden_size, settings.embedding_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        for _ in mult_vae_steps(model, optimizer, matrix, batch_size=settings.batch_size, rng=rng):
            pass

    def figure() -> float:
        return ndcg(mult_vae_scores(model, matrix), known, wanted)

    return until_no_better(epoch, figure, patience=PATIENCE, seconds=SECONDS)


def _two_stage(autoencoder: UserAutoencoder, known: Histories, wanted: Histories) -> Figures:
    """NCF over the autoencoder and two closed-form towers, on users whose wishes its networks have not seen."""
    towers = {
        "user_autoencoder": autoencoder,
        **{name: fit_family(name, {}, known) for name in ("ease", "order_ridge")},
    }
    began = time.process_time()
    model = train_two_stage(towers, known, wanted, _titles(known.n_items), NcfConfig(), seed=0, tracker=NullTracker())
    told = model.ncf.report
    figures = {"ndcg_at_10": told["ncf_ndcg_at_10"], "of_the_blend": told["blend_ndcg_at_10"], "epoch": told["epoch"]}
    return {**figures, "seconds": time.process_time() - began}


def _titles(n_items: int) -> pa.Table:
    """Titles of which nothing is known."""
    ids = pa.array([str(number) for number in range(n_items)])
    values = {field.name: ids if field.name == "item_id" else pa.nulls(n_items, field.type) for field in columns.TITLES}
    return pa.table(values, schema=columns.TITLES)


def _neumf(known: Histories, wanted: Histories, vector_size: int) -> Figures:
    torch.manual_seed(0)
    matrix = known.positives().matrix()
    samples = Samples(matrix, np.random.default_rng(0))
    model = NeuMf(*matrix.shape, gmf_size=vector_size, mlp_size=8, hidden_size=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        samples.draw()
        for _ in neumf_steps(model, optimizer, samples, batch_size=NEUMF_BATCH):
            pass

    def figure() -> float:
        return ndcg(neumf_scores(model, *matrix.shape), known, wanted)

    return until_no_better(epoch, figure, patience=PATIENCE, seconds=SECONDS)
