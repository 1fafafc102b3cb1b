"""Mult-VAE and NeuMF as a user would write them from the papers: plain PyTorch, dense, nothing clever.

What ours are measured against for speed. The tuned rivals of the quality benchmarks are in ``benchmarks.rivals``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

NEGATIVES = 4


class MultVae(nn.Module):
    """n_items → hidden → N(mean, variance) → hidden → n_items (Liang et al., WWW 2018)."""

    def __init__(self, n_items: int, hidden_size: int, embedding_size: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.Sequential(
            nn.Linear(n_items, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 2 * embedding_size)
        )
        self.decoder = nn.Sequential(nn.Linear(embedding_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, n_items))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [batch, n_items], means and log-variances of dense rows [batch, n_items]."""
        mean, log_variance = self.encoder(self.dropout(F.normalize(rows))).chunk(2, dim=1)
        drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance) if self.training else mean
        return self.decoder(drawn), mean, log_variance


def mult_vae_steps(
    model: MultVae,
    optimizer: torch.optim.Optimizer,
    matrix: sparse.csr_matrix,
    *,
    batch_size: int,
    beta: float = 0.2,
    rng: np.random.Generator,
) -> Iterator[int]:
    """One epoch, a step at a time; gives the interactions of each step."""
    model.train()
    order = rng.permutation(matrix.shape[0])
    for start in range(0, len(order), batch_size):
        part = matrix[order[start : start + batch_size]]
        rows = torch.from_numpy(part.toarray())
        logits, mean, log_variance = model(rows)
        missed = -(F.log_softmax(logits, dim=1) * rows).sum(dim=1).mean()
        divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(dim=1).mean()
        optimizer.zero_grad()
        (missed + beta * divergence).backward()
        optimizer.step()
        yield part.nnz


@torch.no_grad()
def mult_vae_scores(model: MultVae, matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """[n_users, n_items]"""
    model.eval()
    parts = [
        model(torch.from_numpy(matrix[start : start + 512].toarray()))[0] for start in range(0, matrix.shape[0], 512)
    ]
    return torch.cat(parts).numpy()


class NeuMf(nn.Module):
    """GMF and MLP over a user's and a title's vectors, joined at the end (He et al., WWW 2017)."""

    def __init__(self, n_users: int, n_items: int, *, gmf_size: int, mlp_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gmf_users, self.gmf_items = nn.Embedding(n_users, gmf_size), nn.Embedding(n_items, gmf_size)
        self.mlp_users, self.mlp_items = nn.Embedding(n_users, mlp_size), nn.Embedding(n_items, mlp_size)
        self.mlp = nn.Sequential(
            nn.Linear(2 * mlp_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size // 2), nn.ReLU()
        )
        self.last = nn.Linear(gmf_size + hidden_size // 2, 1)
        for table in (self.gmf_users, self.gmf_items, self.mlp_users, self.mlp_items):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Logits [n] of pairs."""
        product = self.gmf_users(users) * self.gmf_items(items)
        hidden = self.mlp(torch.cat([self.mlp_users(users), self.mlp_items(items)], dim=-1))
        return self.last(torch.cat([product, hidden], dim=-1)).squeeze(-1)


class Samples(Dataset[tuple[int, int, float]]):
    """Every positive with four negatives, drawn anew for every epoch."""

    def __init__(self, matrix: sparse.csr_matrix, rng: np.random.Generator) -> None:
        self.liked = matrix.tocoo()
        self.seen, self.n_items, self.rng = (
            {*zip(self.liked.row.tolist(), self.liked.col.tolist(), strict=True)},
            matrix.shape[1],
            rng,
        )
        self.draw()

    def draw(self) -> None:
        """New negatives."""
        users, items = self.liked.row.tolist(), self.liked.col.tolist()
        self.users, self.items, self.labels = list(users), list(items), [1.0] * len(users)
        for user, item in zip(np.repeat(users, NEGATIVES).tolist(), self._drawn(len(users)), strict=True):
            if (user, item) not in self.seen:
                self.users.append(user)
                self.items.append(item)
                self.labels.append(0.0)

    def _drawn(self, positives: int) -> list[int]:
        return self.rng.integers(0, self.n_items, positives * NEGATIVES).tolist()

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, place: int) -> tuple[int, int, float]:
        return self.users[place], self.items[place], self.labels[place]


def neumf_steps(model: NeuMf, optimizer: torch.optim.Optimizer, samples: Samples, *, batch_size: int) -> Iterator[int]:
    """One epoch, a step at a time; gives the pairs of each step."""
    model.train()
    for users, items, labels in DataLoader(samples, batch_size=batch_size, shuffle=True):
        loss = F.binary_cross_entropy_with_logits(model(users, items), labels.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield len(users)


@torch.no_grad()
def neumf_scores(model: NeuMf, n_users: int, n_items: int) -> NDArray[np.float32]:
    """[n_users, n_items]"""
    model.eval()
    items = torch.arange(n_items)
    return torch.stack([model(torch.full((n_items,), user), items) for user in range(n_users)]).numpy()


def until_no_better(
    epoch: Callable[[], None], figure: Callable[[], float], *, patience: int, seconds: float
) -> dict[str, float]:
    """Train until the figure has not risen for ``patience`` epochs, or the processor time is up; the best figure."""
    began, best, best_epoch, number = time.process_time(), 0.0, 0, 0
    while number - best_epoch < patience and time.process_time() - began < seconds:
        epoch()
        number += 1
        if (found := figure()) > best:
            best, best_epoch = found, number
    stopped = number - best_epoch >= patience
    return {
        "ndcg_at_10": best,
        "epoch": best_epoch,
        "epochs": number,
        "seconds": time.process_time() - began,
        "stopped": stopped,
    }
