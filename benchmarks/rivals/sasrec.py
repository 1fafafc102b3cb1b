"""SASRec: causal self-attention over the titles in order, with full softmax.

Kang, McAuley, "Self-attentive sequential recommendation", ICDM 2018: two blocks of one head, width 50, learned
positions, layer normalisation before each part, title vectors shared by input and output, Adam (.9, .98) 1e-3, 128
users a batch. Two deviations, both to its favour: cross-entropy over all titles in place of BCE with one negative
(Klenitskiy, Vasilev, "Turning dross into gold loss: is BERT4Rec really better than SASRec?", RecSys 2023), and long
histories are taught in pieces rather than by their newest titles alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.rivals.common import NeuralScorer, RivalNetwork, neural_family
from benchmarks.rivals.sequences import batches, newest, next_title_loss
from recsys.histories import Histories


class Block(nn.Module):
    """Self-attention, then two position-wise layers, each with a residual; only queries are normalised."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attention_norm = nn.LayerNorm(size, eps=1e-8)
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.forward_norm = nn.LayerNorm(size, eps=1e-8)
        self.layers = nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, size), nn.Dropout(dropout)
        )

    def forward(self, states: Tensor) -> Tensor:
        """[n, length, size] to the same."""
        queries = self.attention_norm(states)
        read = F.scaled_dot_product_attention(
            self._by_head(self.query(queries)),
            self._by_head(self.key(states)),
            self._by_head(self.value(states)),
            dropout_p=self.rate if self.training else 0.0,
            is_causal=True,
        )
        normed = self.forward_norm(queries + read.transpose(1, 2).flatten(2))
        out: Tensor = normed + self.layers(normed)
        return out

    def _by_head(self, values: Tensor) -> Tensor:
        n, length, size = values.shape
        return values.view(n, length, self.heads, size // self.heads).transpose(1, 2)  # [n, heads, length, size/heads]


class SasRec(RivalNetwork):
    """Titles and places → blocks → a vector whose product with a title's is its logit."""

    max_epochs = 60
    default_epochs = 30

    def __init__(
        self,
        n_titles: int,
        *,
        embedding_size: int = 50,
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.2,
        max_length: int = 50,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        self.max_length, self.learning_rate, self.batch_size = max_length, learning_rate, batch_size
        self.titles = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_titles, embedding_size)))
        self.places = nn.Parameter(nn.init.xavier_normal_(torch.empty(max_length, embedding_size)))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(embedding_size, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(embedding_size, eps=1e-8)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam with the paper's second moment."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98))

    def states(self, titles: Tensor) -> Tensor:
        """[n, length] titles in order, to what follows each, [n, length, embedding_size]."""
        read = F.embedding(titles, self.titles) * self.titles.shape[1] ** 0.5
        states = self.dropout(read + self.places[: titles.shape[1]])
        for block in self.blocks:
            states = block(states)
        out: Tensor = self.norm(states)
        return out

    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Cross-entropy of the next title at every place."""
        for inputs, targets in batches(liked, self.max_length, self.batch_size, rng):
            yield next_title_loss(self.states(inputs), targets, self.titles)

    def logits(self, liked: Histories) -> Tensor:
        """What follows the newest title."""
        titles, last = newest(liked, self.max_length)
        return self.states(titles)[torch.arange(len(last)), last] @ self.titles.T


class SasRecScorer(NeuralScorer):
    """A fitted SASRec."""

    network_class = SasRec


SETTINGS = (
    {"embedding_size": 50, "dropout": 0.2},
    {"embedding_size": 50, "dropout": 0.5},
    {"embedding_size": 64, "dropout": 0.3, "heads": 2},
    {"embedding_size": 128, "dropout": 0.5, "heads": 2},
    {"embedding_size": 64, "dropout": 0.4, "max_length": 100},
    {"embedding_size": 64, "dropout": 0.4, "blocks": 1},
)
FAMILY = neural_family(SasRecScorer, SETTINGS, needs_order=True)
