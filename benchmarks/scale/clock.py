"""Where a trainer's time goes: waiting for the next batch, or working on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from recsys import ncf_training
from recsys.models import autoencoder_training


@dataclass
class Clock:
    """Seconds of every step: what it waited for its batch, and what it worked."""

    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(self.waited) + sum(self.worked)

    @property
    def compute_share(self) -> float:
        """Of the steps' time, what was not waiting."""
        return sum(self.worked) / self.seconds if self.seconds else float("nan")

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; the time is taken between them."""
        source, before = iter(batches), time.perf_counter()
        for batch in source:
            arrived = time.perf_counter()
            yield batch
            done = time.perf_counter()
            self.waited.append(arrived - before)
            self.worked.append(done - arrived)
            before = time.perf_counter()


@contextmanager
def autoencoder_clock() -> Iterator[Clock]:
    """Time the steps of every user autoencoder that is trained in the block."""
    clock, real = Clock(), autoencoder_training.ahead
    with patch.object(autoencoder_training, "ahead", lambda batches: clock.over(real(batches))):
        yield clock


@contextmanager
def ncf_clock() -> Iterator[Clock]:
    """Time the gathering of pairs (waiting) and the networks' passes (work) of every NCF that is trained in the block.

    Gathering is what ``PairTensors.logits`` does beside the network; the rest of a step is work.
    """
    clock, tensors = Clock(), ncf_training.PairTensors
    real, passes = tensors.logits, [0.0]

    def logits(self: Any, network: Any, users: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            found = network(*arguments)
            passes[0] = time.perf_counter() - began
            return found

        began = time.perf_counter()
        found = real(self, timed, users)
        clock.waited.append(time.perf_counter() - began - passes[0])
        clock.worked.append(passes[0])
        return found

    with patch.object(tensors, "logits", logits):
        yield clock
