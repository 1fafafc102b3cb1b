"""What the epoch loops of the neural models share: schedules, averages, stopping, seeds.

Functions and small classes, no base trainer: each model writes its own loop. Knows nothing of any model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys.errors import TrainingError


def warmup_then_decay(step: int, total: int, warmup: int, *, floor: float = 0.07) -> float:
    """Share of the peak learning rate at a step (from 0): linear up over the warm-up, then linear down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    return 1 - (1 - floor) * (step - warmup) / max(1, total - warmup)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Ema:
    """An exponential moving average of a module's parameters: what is validated and kept.

    The average's memory grows with the steps, min(decay, (1 + t) / (10 + t)), so that a short training is not
    averaged with its random start.
    """

    def __init__(self, module: nn.Module, decay: float = 0.99) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the parameters after a step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [current[name].detach() for name in self.values], weight)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Put the averages into the module for the length of the block."""
        current = copy_of(module)
        load_into(module, self.values)
        try:
            yield
        finally:
            load_into(module, current)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's parameters."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@torch.no_grad()
def load_into(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into a module's parameters.

    Raises:
        KeyError: a parameter is missing from ``values``.
    """
    for name, parameter in module.named_parameters():
        parameter.copy_(values[name])


class EarlyStopping:
    """Keeps the best epoch by a figure (higher is better), and says when to stop."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = -math.inf
        self.best_epoch = 0

    def update(self, epoch: int, figure: float) -> bool:
        """Take in an epoch's figure (epochs count from 1); whether it is the best so far."""
        if figure <= self.best:
            return False
        self.best, self.best_epoch = figure, epoch
        return True

    def stop(self, epoch: int) -> bool:
        """Whether the best epoch lies further back than the patience."""
        return epoch - self.best_epoch >= self.patience


def check_finite(loss: float, *, trainer: str, epoch: int, learning_rate: float) -> None:
    """Stop a training whose loss is no number.

    Raises:
        TrainingError: it is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the {trainer} diverged: its loss is {loss} in epoch {epoch} (learning_rate {learning_rate:g})",
            remedy="set a lower learning_rate in its section of the configuration; nothing was registered",
        )


def seed_epoch(seed: int, epoch: int) -> np.random.Generator:
    """Seed PyTorch for one epoch, and give numpy's generator for it: a resumed training draws what it would have."""
    sequence = np.random.SeedSequence([seed, epoch])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
    return np.random.default_rng(sequence)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Have PyTorch choose deterministic algorithms in the block; on CUDA warn where there is none."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    memory.fill_uninitialized_memory = False  # it is for finding bugs, and costs time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors: ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
