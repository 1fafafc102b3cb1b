"""A linear bag of tokens, trained with the content CNN's own loss: what convolution has to add to.

A title's vector is its TF-IDF row times a matrix, on top of the same ridge; the rest (users, titles drawn, what is
asked for, when it stops) is as in :mod:`recsys.models.content_training`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from recsys.cold_titles import ColdDraw, users_of
from recsys.content_baselines import rated_titles, tfidf
from recsys.content_space import ContentSpace, fit_space, user_vectors
from recsys.data.text import Documents
from recsys.histories import Floats, Histories, Ints
from recsys.metrics import user_metrics

EPOCHS, STEPS, USERS, TITLES = 12, 20, 128, 512
TOKEN_DROPOUT = 0.2
RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates tried, on the titles to stop on."""


class BagOfTokens:
    """Vectors of titles from their tokens alone, without order."""

    def __init__(self, history_rows: Floats, titles: Floats) -> None:
        self._history_rows = history_rows  # [n_items, d]
        self._titles = titles  # [n_items, d + 1]

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]."""
        users = user_vectors(histories, self._history_rows)
        return np.asarray(users @ self._titles[:, :-1].T + self._titles[:, -1], np.float32)


def train_bag(documents: Documents, draw: ColdDraw, *, embedding_size: int, seed: int) -> BagOfTokens:
    """Train with each learning rate, and keep the epoch and rate that rank the titles to stop on best."""
    features = tfidf(documents)
    space = fit_space(draw.warm, features, embedding_size=embedding_size, seed=seed)
    users = users_of(draw.liked, draw.stop)
    exam = draw.warm.select(users), draw.liked.select(users)
    best, kept = -1.0, BagOfTokens(space.history_rows, space.title_rows)
    for rate in RATES:
        for bag in _epochs(features, space, draw, rate, seed):
            figure = _ndcg(bag.scores(exam[0])[:, draw.stop], exam[1], draw.stop)
            if figure > best:
                best, kept = figure, bag
    return kept


def _epochs(
    features: sparse.csr_matrix, space: ContentSpace, draw: ColdDraw, rate: float, seed: int
) -> Iterator[BagOfTokens]:
    """The bag before the first epoch (a ridge), and after each."""
    rng = np.random.default_rng([seed, 0xBA6])
    added = torch.zeros((features.shape[1], space.title_rows.shape[1]), requires_grad=True)
    optimizer = torch.optim.AdamW([added], rate, betas=(0.9, 0.99), weight_decay=1e-2)
    likes = draw.warm.positives()
    likes = likes.select(np.flatnonzero(likes.lengths >= 2))
    warm = np.flatnonzero(rated_titles(draw.warm)).astype(np.int32)
    yield BagOfTokens(space.history_rows, space.title_rows)
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            loss = _loss(features, space, likes, warm, added, rng)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        rows = space.title_rows + np.asarray(features @ added.detach().numpy(), np.float32)
        yield BagOfTokens(space.history_rows, rows)


def _loss(
    features: sparse.csr_matrix,
    space: ContentSpace,
    likes: Histories,
    warm: Ints,
    added: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    users = rng.choice(likes.n_users, min(USERS, likes.n_users), replace=False)
    titles = warm if len(warm) <= TITLES else np.sort(rng.choice(warm, TITLES, replace=False))
    block = likes.select(users)
    share = np.repeat(rng.uniform(0.3, 0.8, block.n_users), block.lengths)
    is_given = rng.random(len(block.item_nums)) < share
    given, wanted = block.where(is_given), block.where(~is_given)
    tokens = features[titles].tocoo()
    kept = rng.random(len(tokens.data)) >= TOKEN_DROPOUT
    cells = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([tokens.row[kept], tokens.col[kept]]).astype(np.int64)),
        torch.from_numpy(tokens.data[kept].astype(np.float32)),
        tokens.shape,
    )
    rows = torch.from_numpy(space.title_rows[titles]) + torch.sparse.mm(cells, added)  # [n_titles, d + 1]
    vectors = torch.from_numpy(user_vectors(given, space.history_rows))
    scores = vectors @ rows[:, :-1].T + rows[:, -1]
    seen, goals = (torch.from_numpy(h.matrix()[:, titles].toarray()) for h in (given, wanted))
    chances = functional.log_softmax(scores.masked_fill(seen > 0, -1e9), dim=1)
    return -((chances * goals).sum(dim=1) * goals.sum(dim=1).clamp(min=1).rsqrt()).mean()


def _ndcg(scores: Floats, liked: Histories, items: Ints) -> float:
    return float(cold_per_user(scores, liked, items, ks=(100,))["ndcg_at_100"].mean())


def cold_per_user(
    scores: Floats, liked: Histories, items: Ints, *, ks: tuple[int, ...] = (10, 20)
) -> dict[str, Floats]:
    """Metrics of every user on cold titles ranked among themselves, [n_users] each; NaN where none of them is liked.

    Args:
        scores: [n_users, n_cold].
        liked: the likes of the same users.
        items: [n_cold] title numbers.
        ks: cut-offs.
    """
    relevant = liked.matrix()[:, items].toarray() > 0
    count = relevant.sum(axis=1)
    hits = np.take_along_axis(relevant, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    hits = np.pad(hits, ((0, 0), (0, max(0, max(ks) - hits.shape[1]))))
    metrics = user_metrics(hits, np.maximum(count, 1), ks)
    return {name: np.where(count > 0, values, np.nan).astype(np.float32) for name, values in metrics.items()}
