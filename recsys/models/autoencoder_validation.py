"""How well a user network that is still training finds what comes next: NDCG@10, cheaply, every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.histories import Bools, Floats, Histories
from recsys.models.autoencoder_network import UserNetwork
from recsys.models.user_autoencoder import AutoencoderShape
from recsys.user_batches import whole

MOST_USERS = 2_000
_BLOCK = 512


def validator(
    histories: Histories, targets: Histories, shape: AutoencoderShape, popularity: Floats, device: str
) -> Callable[[UserNetwork], float]:
    """A function that gives a network's mean NDCG@10 with seen titles out.

    It is measured on at most :data:`MOST_USERS` users, evenly spaced, of those who have a target; there must be one.
    """
    wanted = targets.positives()
    measured = np.flatnonzero(wanted.lengths > 0)
    measured = measured[:: max(1, -(-len(measured) // MOST_USERS))]
    blocks = [
        _Block.of(histories.select(part), wanted.select(part), shape, popularity, device)
        for part in np.array_split(measured, max(1, len(measured) // _BLOCK))
    ]

    def measure(network: UserNetwork) -> float:
        with torch.inference_mode():
            gained = [block.ndcg(network) for block in blocks]
        return round(float(torch.cat(gained).mean()), 6)

    return measure


@dataclass(frozen=True)
class _Block:
    """Validation users, ready to be encoded."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]
    seen: tuple[Tensor, Tensor]
    wanted: tuple[Tensor, Tensor]
    ideal: Tensor
    unlearned: Tensor

    @classmethod
    def of(
        cls, histories: Histories, wanted: Histories, shape: AutoencoderShape, popularity: Floats, device: str
    ) -> _Block:
        learned: Bools = np.asarray(popularity > 0)
        readable = shape.readable(histories, learned)
        inputs = whole(shape.rows(readable), taus=shape.taus, sequence_length=shape.sequence_length)
        discounts = 1 / np.log2(np.arange(2, 12))
        ideal = np.concatenate([[1.0], np.cumsum(discounts)])[np.minimum(wanted.lengths, 10)]

        def places(part: Histories) -> tuple[Tensor, Tensor]:
            return (
                torch.from_numpy(part.user_nums.astype(np.int64)).to(device),
                torch.from_numpy(part.item_nums.astype(np.int64)).to(device),
            )

        return cls(
            inputs=shape.tensors(inputs, device),
            seen=places(histories),
            wanted=places(wanted),
            ideal=torch.from_numpy(ideal.astype(np.float32)).to(device),
            unlearned=torch.from_numpy(np.where(learned, 0, -np.inf).astype(np.float32)).to(device),
        )

    def ndcg(self, network: UserNetwork) -> Tensor:
        """NDCG@10 per user, [n_users]."""
        mean, _ = network.encode(*self.inputs)
        scores = network.decode(mean) + self.unlearned
        scores[self.seen] = -torch.inf
        k = min(10, scores.shape[1])
        best = scores.topk(k, dim=1).indices
        relevant = torch.zeros_like(scores)
        relevant[self.wanted] = 1.0
        discounts = 1 / torch.log2(torch.arange(2, 2 + k, device=scores.device))
        return (relevant.gather(1, best) * discounts).sum(1) / self.ideal
