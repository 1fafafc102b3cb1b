"""A softmax over a sample of the titles in place of all of them, corrected for how likely each was to be drawn.

Users of a batch share one sample. Their own targets are always counted, once and in full; every other title stands for
1 / (its chance of being in the sample) titles, so that the denominator is right on average (the logQ correction of
Bengio & Senécal, "Adaptive importance sampling", 2008, with chances of inclusion, as the sample has no repeats).
Knows nothing of encoders or of training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.devices import to_device
from recsys.histories import Floats, Longs
from recsys.user_batches import Targets

FLATTENING = 0.75
"""Power of the popularity that titles are drawn by: rarer ones are hard to tell apart if they are never asked for."""


@dataclass(frozen=True)
class Sample:
    """Titles that a batch is scored against, beside its targets."""

    items: Longs
    """[s] ascending."""
    log_chances: Floats
    """[s] log of each one's chance of being in the sample."""
    out_rows: Longs
    """[m] users (places in the batch) for whom a title of the sample does not count: seen, or a target."""
    out_places: Longs
    """[m] its place in ``items``."""

    def part(self, users: slice) -> Sample:
        """The same sample for some users of the batch, neighbours."""
        mine = (self.out_rows >= users.start) & (self.out_rows < users.stop)
        return replace(self, out_rows=self.out_rows[mine] - users.start, out_places=self.out_places[mine])


class Sampler:
    """Draws titles by their flattened popularity."""

    def __init__(self, popularity: Floats, size: int) -> None:
        """Prepare to draw.

        Args:
            popularity: [n_items]; what is 0 is never drawn.
            size: draws per sample, with repeats, which are then dropped.
        """
        weights = np.asarray(popularity, np.float64) ** FLATTENING
        self._size = size
        self._ends = np.cumsum(weights / weights.sum())
        chances = weights / weights.sum()
        self._log_chances = np.log(np.maximum(-np.expm1(size * np.log1p(-np.minimum(chances, 1 - 1e-12))), 1e-12))

    def draw(self, targets: Targets, rng: np.random.Generator) -> Sample:
        """A sample for a batch."""
        found = np.searchsorted(self._ends, rng.random(self._size), side="right")
        items = np.unique(np.minimum(found, len(self._ends) - 1))
        place_of = np.full(len(self._ends), -1, np.int64)
        place_of[items] = np.arange(len(items))
        rows = np.concatenate([targets.seen_rows, targets.rows])
        places = place_of[np.concatenate([targets.seen_items, targets.items])]
        return Sample(items, self._log_chances[items].astype(np.float32), rows[places >= 0], places[places >= 0])


class _SampledCrossEntropy(torch.autograd.Function):
    """One matrix [batch, s] in memory: it becomes the probabilities, then the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, wanted: Tensor, out_rows: Tensor, out_places: Tensor, rows: Tensor) -> Tensor:
        logits[out_rows, out_places] = -torch.inf
        most = logits.amax(1).scatter_reduce(0, rows, wanted, "amax")
        logits.sub_(most[:, None]).exp_()
        shares = (wanted - most[rows]).exp()
        total = logits.sum(1).index_add_(0, rows, shares)  # [batch]
        logits.div_(total[:, None])
        ctx.save_for_backward(logits, shares / total[rows], rows)
        return torch.zeros_like(total).index_add_(0, rows, (total.log() + most)[rows] - wanted)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (weights,) = gradients
        probabilities, shares, rows = ctx.saved_tensors
        counted = weights * torch.bincount(rows, minlength=len(weights))
        of_wanted = counted[rows] * shares - weights[rows]
        return probabilities.mul_(counted[:, None]), of_wanted, None, None, None


def sampled_cross_entropy(users: Tensor, decoder: Tensor, bias: Tensor, sample: Sample, targets: Targets) -> Tensor:
    """−Σ log softmax of each user's targets, estimated on the sample, [batch].

    Args:
        users: [batch, d] vectors, float32.
        decoder: [n_items, d] title vectors.
        bias: [n_items].
        sample: from :meth:`Sampler.draw`, for these targets.
        targets: of the users.
    """

    def there(values: Longs | Floats) -> Tensor:
        return to_device(values, str(users.device))

    known, wanted_places = np.unique(np.concatenate([sample.items, targets.items]), return_inverse=True)
    places = there(np.searchsorted(known, sample.items))
    vectors, biases = decoder[there(known)], bias[there(known)]  # gathered once: its gradient is a whole matrix
    rows, wanted_at = there(targets.rows), there(wanted_places[len(sample.items) :])
    logits = torch.addmm(biases[places] - there(sample.log_chances), users, vectors[places].T).float()  # [batch, s]
    wanted = (users[rows] * vectors[wanted_at]).sum(1).float() + biases[wanted_at]  # [t]
    loss: Tensor = _SampledCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, wanted, there(sample.out_rows), there(sample.out_places), rows
    )
    return loss
