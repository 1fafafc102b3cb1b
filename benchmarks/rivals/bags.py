"""Bags of titles: what the rivals without order read. The first layer costs what is in the bag, not all titles."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from recsys.histories import Histories


class Bags:
    """A block of users' titles as tensors."""

    def __init__(self, liked: Histories) -> None:
        """Take the users' rows, in any order."""
        self.users = torch.from_numpy(liked.user_nums.astype(np.int64))  # [n]
        self.items = torch.from_numpy(liked.item_nums.astype(np.int64))  # [n]
        self.starts = torch.from_numpy(liked.indptr[:-1].astype(np.int64))  # [n_users]
        self.lengths = torch.from_numpy(liked.lengths.astype(np.float32))  # [n_users]

    def sums(self, table: Tensor, dropout: float = 0.0) -> Tensor:
        """The sum of each user's rows of ``table`` [n_titles, size], divided by √n: [n_users, size].

        It is the product of the table with the users' L2-normalised indicator vectors.

        Args:
            table: one row per title.
            dropout: share of the titles dropped, the others scaled up, after normalising.
        """
        weights = self.lengths.clamp(min=1).rsqrt()[self.users]
        weights = F.dropout(weights, dropout, training=dropout > 0)
        return F.embedding_bag(self.items, table, self.starts, mode="sum", per_sample_weights=weights)

    def multinomial(self, logits: Tensor) -> Tensor:
        """-Σ log softmax of each user's titles, [n_users]."""
        chosen = logits.log_softmax(dim=1)[self.users, self.items]
        return -torch.zeros_like(self.lengths).index_add(0, self.users, chosen)


def batch_size(liked: Histories) -> int:
    """Users a batch of an autoencoder: the papers' 500 where there are many, about ten batches where there are few."""
    return int(np.clip(liked.n_users // 10, 32, 500))
