"""Mult-VAE: a variational autoencoder of histories with a multinomial likelihood.

Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering", WWW 2018. As there: one tanh
layer each way, L2-normalised input with dropout .5, Adam 1e-3, β annealed linearly to a cap below 1. Batches shrink
with the data, so that a few hundred users give more than a step or two an epoch; annealing is counted in epochs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.bags import Bags, batch_size
from benchmarks.rivals.common import NeuralScorer, RivalNetwork, batches_of_users, neural_family
from recsys.histories import Histories


class MultVae(RivalNetwork):
    """n_titles → hidden → N(mean, variance) → hidden → n_titles."""

    max_epochs = 200
    default_epochs = 60

    def __init__(
        self,
        n_titles: int,
        *,
        hidden_size: int = 600,
        embedding_size: int = 200,
        dropout: float = 0.5,
        beta: float = 0.2,
        anneal_epochs: int = 50,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.dropout, self.beta, self.anneal_epochs, self.learning_rate = dropout, beta, anneal_epochs, learning_rate
        self.first = nn.Parameter(torch.empty(n_titles, hidden_size))
        self.first_bias = nn.Parameter(torch.zeros(hidden_size))
        self.to_latent = nn.Linear(hidden_size, 2 * embedding_size)
        self.from_latent = nn.Linear(embedding_size, hidden_size)
        self.last = nn.Linear(hidden_size, n_titles)
        for weights in (self.first, self.to_latent.weight, self.from_latent.weight, self.last.weight):
            nn.init.xavier_uniform_(weights)
        for layer in (self.to_latent, self.from_latent, self.last):
            nn.init.trunc_normal_(layer.bias, std=0.001)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def encode(self, bags: Bags, dropout: float) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, [n_users, embedding_size] each."""
        hidden = torch.tanh(bags.sums(self.first, dropout) + self.first_bias)
        mean, log_variance = self.to_latent(hidden).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """[n_users, n_titles] logits."""
        logits: Tensor = self.last(torch.tanh(self.from_latent(latent)))
        return logits

    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """The negative ELBO with the Kullback-Leibler term weighted by β."""
        beta = self.beta * min(1.0, (epoch - 1) / self.anneal_epochs)
        for block in batches_of_users(liked, batch_size(liked), rng):
            bags = Bags(block)
            mean, log_variance = self.encode(bags, self.dropout)
            latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
            yield (bags.multinomial(self.decode(latent)) + beta * divergence).mean()

    def logits(self, liked: Histories) -> Tensor:
        """The decoded mean."""
        return self.decode(self.encode(Bags(liked), 0.0)[0])


class MultVaeScorer(NeuralScorer):
    """A fitted Mult-VAE."""

    network_class = MultVae


SETTINGS = (
    {"hidden_size": 600, "embedding_size": 200, "dropout": 0.5, "beta": 0.2},
    {"hidden_size": 300, "embedding_size": 100, "dropout": 0.5, "beta": 0.2},
    {"hidden_size": 600, "embedding_size": 200, "dropout": 0.5, "beta": 0.5},
    {"hidden_size": 600, "embedding_size": 200, "dropout": 0.7, "beta": 0.2},
    {"hidden_size": 600, "embedding_size": 200, "dropout": 0.7, "beta": 1.0},
    {"hidden_size": 200, "embedding_size": 64, "dropout": 0.7, "beta": 0.5},
)
FAMILY = neural_family(MultVaeScorer, SETTINGS)
