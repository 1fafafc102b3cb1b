"""GRU4Rec: a recurrent network over the titles in order, with full softmax.

Hidasi, Karatzoglou, Baltrunas, Tikk, "Session-based recommendations with recurrent neural networks", ICLR 2016, and
Hidasi, Karatzoglou, "Recurrent neural networks with top-k gains for session-based recommendations", CIKM 2018 (separate
title vectors at the input; dropout on them and on the state). One GRU layer of 100 units. Deviations to its favour:
cross-entropy over all titles rather than the batch's, all places of a history at once in place of session-parallel
batches, and Adam in place of Adagrad.
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


class Gru4Rec(RivalNetwork):
    """Titles → GRU → a vector whose product with a title's, and its bias, is the logit."""

    max_epochs = 60
    default_epochs = 30

    def __init__(
        self,
        n_titles: int,
        *,
        embedding_size: int = 64,
        hidden_size: int = 100,
        input_dropout: float = 0.25,
        dropout: float = 0.25,
        max_length: int = 50,
        learning_rate: float = 2e-3,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        self.max_length, self.learning_rate, self.batch_size = max_length, learning_rate, batch_size
        self.titles = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_titles, embedding_size)))
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.gru = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.table = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_titles, hidden_size)))
        self.bias = nn.Parameter(torch.zeros(n_titles))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def states(self, titles: Tensor) -> Tensor:
        """[n, length] titles in order, to what follows each, [n, length, hidden_size]."""
        states: Tensor = self.dropout(self.gru(self.input_dropout(F.embedding(titles, self.titles)))[0])
        return states

    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Cross-entropy of the next title at every place."""
        for inputs, targets in batches(liked, self.max_length, self.batch_size, rng):
            yield next_title_loss(self.states(inputs), targets, self.table, self.bias)

    def logits(self, liked: Histories) -> Tensor:
        """What follows the newest title."""
        titles, last = newest(liked, self.max_length)
        return F.linear(self.states(titles)[torch.arange(len(last)), last], self.table, self.bias)


class Gru4RecScorer(NeuralScorer):
    """A fitted GRU4Rec."""

    network_class = Gru4Rec


SETTINGS = (
    {"embedding_size": 64, "hidden_size": 100, "input_dropout": 0.25, "dropout": 0.25},
    {"embedding_size": 64, "hidden_size": 100, "input_dropout": 0.5, "dropout": 0.5},
    {"embedding_size": 64, "hidden_size": 128, "input_dropout": 0.25, "dropout": 0.5},
    {"embedding_size": 128, "hidden_size": 200, "input_dropout": 0.5, "dropout": 0.5},
    {"embedding_size": 32, "hidden_size": 64, "input_dropout": 0.25, "dropout": 0.25},
    {"embedding_size": 64, "hidden_size": 128, "input_dropout": 0.5, "dropout": 0.5, "learning_rate": 4e-3},
)
FAMILY = neural_family(Gru4RecScorer, SETTINGS, needs_order=True)
