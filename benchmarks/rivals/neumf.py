"""NeuMF: a generalised matrix factorisation and a multi-layer perceptron over a user and a title, joined at the end.

He, Liao, Zhang, Nie, Hu, Chua, "Neural collaborative filtering", WWW 2017. As there: separate vectors for both parts,
three hidden ReLU layers halving in width, binary cross-entropy with four sampled negatives to a positive, N(0, .01)
initial vectors, Adam 1e-3, trained from scratch (their Table 2's "without pre-training").

One deviation: the original looks a user up in a table and cannot score anyone it was not trained on, while a scorer
here is given histories. The user's two vectors are therefore |N|^-½ Σ of vectors of the titles liked (tables of their
own, as in SVD++: Koren, KDD 2008), learned with the rest; a title that is a positive is left out of its own user's
sum, as in FISM (Kabbur et al., KDD 2013).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.rivals.bags import Bags
from benchmarks.rivals.common import NeuralScorer, RivalNetwork, batches_of_users, neural_family
from recsys.histories import Floats, Histories, Longs

_NEGATIVES = 4
_DRAWS = 8
_SCORED = 16


class NeuMf(RivalNetwork):
    """(user, title) → logit. ``factors`` is the width of the last layer of either part, as the paper counts."""

    max_epochs = 60
    default_epochs = 20

    def __init__(
        self,
        n_titles: int,
        *,
        factors: int = 8,
        learning_rate: float = 1e-3,
        dropout: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.factors, self.learning_rate, self.weight_decay = factors, learning_rate, weight_decay
        self.liked, self.titles = (nn.Parameter(torch.empty(n_titles, 5 * factors).normal_(std=0.01)) for _ in range(2))
        self.first = nn.Linear(8 * factors, 4 * factors)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * factors, 2 * factors),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * factors, factors),
            nn.ReLU(),
        )
        self.last = nn.Linear(2 * factors, 1)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam; ``weight_decay`` is an L2 penalty, as the authors' code offers."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)

    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Binary cross-entropy of every positive and four negatives to each."""
        for block in batches_of_users(liked, users_per_batch(liked), rng):
            bags = Bags(block)
            sums = F.embedding_bag(bags.items, self.liked, bags.starts, mode="sum")  # [n_users, 5 factors]
            others = (bags.lengths[bags.users, None] - 1).clamp(min=1).rsqrt()
            positive = self.pairs((sums[bags.users] - self.liked[bags.items]) * others, self.titles[bags.items])
            users, items, held = (torch.from_numpy(values) for values in negatives(block, rng))
            negative = self.pairs((sums * bags.lengths[:, None].rsqrt())[users], self.titles[items])
            loss = F.softplus(-positive).sum() + (F.softplus(negative) * held).sum()
            yield loss / (len(positive) + held.sum())

    def pairs(self, users: Tensor, titles: Tensor) -> Tensor:
        """Logits of users' and titles' vectors [..., 5 factors], [...]; leading dimensions broadcast."""
        f = self.factors
        of_user, of_title = self.first.weight.chunk(2, dim=1)  # a layer over both vectors, side by side
        hidden = F.linear(users[..., f:], of_user, self.first.bias) + F.linear(titles[..., f:], of_title)
        joined = torch.cat([users[..., :f] * titles[..., :f], self.layers(hidden)], dim=-1)
        logits: Tensor = self.last(joined).squeeze(-1)
        return logits

    def logits(self, liked: Histories) -> Tensor:
        """Every user with every title."""
        users = Bags(liked).sums(self.liked)
        return torch.cat([self.pairs(part[:, None], self.titles) for part in torch.split(users, _SCORED)])


def users_per_batch(liked: Histories) -> int:
    """Whole users make a batch, so that each is summed once: about a hundred batches an epoch."""
    return int(np.clip(liked.n_users // 100, 4, 64))


def negatives(liked: Histories, rng: np.random.Generator) -> tuple[Longs, Longs, Floats]:
    """Four titles that the user did not like to every positive, uniformly.

    Returns:
        users [m], titles [m], and 1.0 [m]; 0.0 where drawing again and again found none.
    """
    seen = np.zeros((liked.n_users, liked.n_items), np.bool_)
    seen[liked.user_nums, liked.item_nums] = True
    users = np.repeat(liked.user_nums.astype(np.int64), _NEGATIVES)
    items = rng.integers(0, liked.n_items, len(users))
    for _ in range(_DRAWS):
        clash = np.flatnonzero(seen[users, items])
        items[clash] = rng.integers(0, liked.n_items, len(clash))
    return users, items, (~seen[users, items]).astype(np.float32)


class NeuMfScorer(NeuralScorer):
    """A fitted NeuMF."""

    network_class = NeuMf


SETTINGS = (
    {"factors": 8},
    {"factors": 16},
    {"factors": 32},
    {"factors": 64},
    {"factors": 32, "dropout": 0.3, "weight_decay": 1e-6},
    {"factors": 64, "dropout": 0.3, "weight_decay": 1e-5},
)
FAMILY = neural_family(NeuMfScorer, SETTINGS)
