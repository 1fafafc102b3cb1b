"""Several processes that train one model together: each takes its share of every batch, gradients are added up.

What they come to is what one process would come to with the same batches, up to the order of float additions: the
ranks go through the same users in the same order, each draws what the whole batch would draw and keeps its own part
(:class:`SharedDraws`), and the sum of their gradients is the whole batch's, because a loss here is a sum over users
divided by the size of the whole batch.

Why not ``DistributedDataParallel``: it sends gradients during every backward pass, so a share that is done in pieces
(:class:`recsys.devices.Pieces`: gradient accumulation, and the answer to a full memory) would have to announce its
last piece before it knows whether that fits. One sum after the last piece is the same arithmetic.

Knows nothing of models, nor of who starts the processes. Not run on a GPU here: ``nccl`` takes the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from recsys.histories import Histories

_APART = 1 << 20
"""Gradients of fewer numbers than this travel together; larger ones as they lie, without a copy."""


@dataclass(frozen=True)
class Group:
    """The processes of one training, as one of them sees it. By itself: one process alone, which sends nothing.

    With ``size`` above 1, ``torch.distributed`` must have been initialised.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """Where what is sent must lie: cpu for gloo, cuda:N for nccl."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This rank's part of ``n`` users: whole runs of them, sizes as equal as can be. May be empty."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the ranks. One that no rank has stays None."""
        if self.size == 1:
            return
        known = list(parameters)
        has = torch.tensor([float(p.grad is not None) for p in known], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in known]  # zeros: an empty share
        for gradient in (g for g in gradients if g.numel() >= _APART):
            self._sum(gradient)
        self._sum_together([*(g for g in gradients if g.numel() < _APART), has])
        for parameter, gradient, ranks in zip(known, gradients, has.tolist(), strict=True):
            parameter.grad = gradient if ranks else None

    def total(self, value: float) -> float:
        """The sum of the ranks' values."""
        if self.size == 1:
            return value
        there = torch.tensor(value, dtype=torch.float64, device=self.device)
        self._sum(there)
        return float(there)

    def leaders(self, figure: Callable[[], float]) -> float:
        """A figure that the leader computes and all go by, so that no two ranks decide differently."""
        return self.total(figure() if self.leads else 0.0)

    def wait(self) -> None:
        """Until every rank is here: what the leader wrote before, all may read after."""
        self.total(0.0)

    def most(self, value: int) -> int:
        """The largest of the ranks' values."""
        if self.size == 1:
            return value
        there = torch.tensor(value, device=self.device)
        dist.all_reduce(there, dist.ReduceOp.MAX)
        return int(there)

    def drawing(self, n: int) -> AbstractContextManager[object]:
        """What a network draws in the block (noise, dropout) is this rank's rows of what ``n`` users would draw.

        Where the rank's share is done in pieces, because memory ran out, each draws for itself.
        """
        return nullcontext() if self.size == 1 else _SharedNoise(n, self.share(n))

    def draws(self, rng: np.random.Generator, histories: Histories, batch: NDArray[np.integer]) -> np.random.Generator:
        """The generator for this rank's share of a batch of users; alone: the one given."""
        return rng if self.size == 1 else SharedDraws(rng, histories.lengths[batch], self.share(len(batch)))

    def _sum(self, tensor: Tensor) -> None:
        dist.all_reduce(tensor)

    def _sum_together(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._sum(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, summed in zip(gradients, parts, strict=True):
            gradient.copy_(summed.view_as(gradient))


ALONE = Group()
"""One process, which has the whole of every batch."""


class SharedDraws(np.random.Generator):
    """Draws for one rank's users: what would be drawn for a whole batch, of which the rank gets its part.

    A draw of one number for each of the rank's users, or for each of their interactions, is such a part. A draw of any
    other size is everybody's, and the same on every rank.
    """

    def __init__(self, rng: np.random.Generator, lengths: NDArray[np.integer], share: slice) -> None:
        """Draw from ``rng``, which must stand at the same place on every rank.

        Args:
            rng: of the whole batch; it goes on as it would.
            lengths: [users of the batch] interactions of each.
            share: the rank's users.
        """
        super().__init__(rng.bit_generator)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        entries = slice(int(ends[share.start]), int(ends[share.stop]))
        self._parts = {p.stop - p.start: (n, p) for n, p in ((len(lengths), share), (int(ends[-1]), entries))}

    def random(self, size: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`numpy.random.Generator.random`."""
        whole, part = self._part(size)
        return super().random(whole, *args, **kwargs)[part] if part else super().random(size, *args, **kwargs)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As :meth:`numpy.random.Generator.uniform`."""
        whole, part = self._part(size)
        return super().uniform(low, high, whole)[part] if part else super().uniform(low, high, size)

    def _part(self, size: Any) -> tuple[int, slice | None]:
        return self._parts.get(size, (0, None)) if isinstance(size, int | np.integer) else (0, None)


class _SharedNoise(TorchFunctionMode):
    """Like :class:`SharedDraws` for what PyTorch draws in a forward pass, whose tensors have a row per user."""

    def __init__(self, n: int, share: slice) -> None:
        super().__init__()
        self._n, self._share = n, share

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.randn_like, F.dropout) or len(args[0]) != self._share.stop - self._share.start:
            return func(*args, **kwargs)
        like, *rest = args
        whole = func(like.new_ones(self._n, *like.shape[1:]), *rest, **kwargs)[self._share]
        return like * whole if func is F.dropout else whole


def this_group(device: str = "cpu") -> Group:
    """The group that this process was started into (``torch.distributed`` is initialised), or :data:`ALONE`."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Group(dist.get_rank(), dist.get_world_size(), device)
