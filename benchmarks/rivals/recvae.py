"""RecVAE: Mult-VAE with a deeper encoder, a composite prior, a KL weight per user, and alternating training.

Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko, "RecVAE: a new variational autoencoder for top-N recommendations with
implicit feedback", WSDM 2020. As there: a densely connected encoder of five swish layers with layer normalisation, a
linear decoder, the prior a mixture of N(0, 1), the last epoch's posterior and a wide Gaussian (3/20, 3/4, 1/10), KL
weighted by γ times the user's titles, three passes that teach the encoder (dropout .5) to one of the decoder (no
dropout), Adam 5e-4. An epoch here is the four passes together. Batches shrink with the data, as Mult-VAE's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.rivals.bags import Bags, batch_size
from benchmarks.rivals.common import NeuralScorer, RivalNetwork, batches_of_users, neural_family
from recsys.histories import Histories

_LAYERS, _NORM_EPSILON = 5, 0.1
_ENCODER_PASSES, _DECODER_PASSES = 3, 1
_WIDE_LOG_VARIANCE = 10.0


class Encoder(nn.Module):
    """n_titles → mean and log-variance; every layer adds all earlier ones."""

    def __init__(self, n_titles: int, hidden_size: int, embedding_size: int) -> None:
        super().__init__()
        bound = max(1, n_titles) ** -0.5  # as of a linear layer
        self.first = nn.Parameter(torch.empty(n_titles, hidden_size).uniform_(-bound, bound))
        self.first_bias = nn.Parameter(torch.zeros(hidden_size))
        self.layers = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(_LAYERS - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size, eps=_NORM_EPSILON) for _ in range(_LAYERS))
        self.to_latent = nn.Linear(hidden_size, 2 * embedding_size)

    def forward(self, bags: Bags, dropout: float) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, [n_users, embedding_size] each."""
        hidden: Tensor = self.norms[0](F.silu(bags.sums(self.first, dropout) + self.first_bias))
        total = hidden
        for layer, norm in zip(self.layers, list(self.norms)[1:], strict=True):
            hidden = norm(F.silu(layer(hidden) + total))
            total = total + hidden
        mean, log_variance = self.to_latent(hidden).chunk(2, dim=1)
        return mean, log_variance


class RecVae(RivalNetwork):
    """The encoder, its copy from the last epoch for the prior, and the decoder."""

    max_epochs = 60
    default_epochs = 20
    mixture: ClassVar[tuple[float, float, float]] = (3 / 20, 3 / 4, 1 / 10)

    def __init__(
        self,
        n_titles: int,
        *,
        hidden_size: int = 600,
        embedding_size: int = 200,
        gamma: float = 0.005,
        dropout: float = 0.5,
        learning_rate: float = 5e-4,
    ) -> None:
        super().__init__()
        self.gamma, self.dropout, self.learning_rate = gamma, dropout, learning_rate
        self.encoder = Encoder(n_titles, hidden_size, embedding_size)
        self.before = Encoder(n_titles, hidden_size, embedding_size).requires_grad_(False)
        self.decoder = nn.Linear(embedding_size, n_titles)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam. A part that is not being taught has no gradient, and is left as it is."""
        return torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=self.learning_rate)

    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Passes that teach the encoder, the prior's renewal, then passes that teach the decoder."""
        for number in range(_ENCODER_PASSES + _DECODER_PASSES):
            encoding = number < _ENCODER_PASSES
            if number == _ENCODER_PASSES:
                self.before.load_state_dict(self.encoder.state_dict())
            self.encoder.requires_grad_(encoding)
            self.decoder.requires_grad_(not encoding)
            for block in batches_of_users(liked, batch_size(liked), rng):
                yield self._loss(Bags(block), self.dropout if encoding else 0.0)
        self.encoder.requires_grad_(True)

    def _loss(self, bags: Bags, dropout: float) -> Tensor:
        mean, log_variance = self.encoder(bags, dropout)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        fit = bags.multinomial(self.decoder(latent))
        if not self.decoder.weight.requires_grad:
            divergence = (log_normal(latent, mean, log_variance) - self._log_prior(bags, latent)).sum(dim=1)
            fit = fit + self.gamma * bags.lengths * divergence
        return fit.mean()

    def _log_prior(self, bags: Bags, latent: Tensor) -> Tensor:
        """Log-density of the composite prior, by dimension, [n_users, embedding_size]."""
        with torch.no_grad():
            mean, log_variance = self.before(bags, 0.0)
        zero = torch.zeros(())
        parts = (
            log_normal(latent, zero, zero),
            log_normal(latent, mean, log_variance),
            log_normal(latent, zero, zero + _WIDE_LOG_VARIANCE),
        )
        weighted = [part + math.log(weight) for part, weight in zip(parts, self.mixture, strict=True)]
        return torch.stack(weighted).logsumexp(dim=0)

    def logits(self, liked: Histories) -> Tensor:
        """The decoded mean."""
        found: Tensor = self.decoder(self.encoder(Bags(liked), 0.0)[0])
        return found


def log_normal(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log-density of a normal distribution."""
    return -0.5 * (log_variance + math.log(2 * math.pi) + (value - mean).square() / log_variance.exp())


class RecVaeScorer(NeuralScorer):
    """A fitted RecVAE."""

    network_class = RecVae


SETTINGS = (
    {"hidden_size": 600, "embedding_size": 200, "gamma": 0.005},
    {"hidden_size": 600, "embedding_size": 200, "gamma": 0.01},
    {"hidden_size": 600, "embedding_size": 200, "gamma": 0.0035, "dropout": 0.7},
    {"hidden_size": 300, "embedding_size": 100, "gamma": 0.005},
    {"hidden_size": 300, "embedding_size": 100, "gamma": 0.02, "dropout": 0.7},
    {"hidden_size": 200, "embedding_size": 64, "gamma": 0.01, "learning_rate": 1e-3},
)
FAMILY = neural_family(RecVaeScorer, SETTINGS)
