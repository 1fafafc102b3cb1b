"""Where a trainer's time goes: waiting for the next batch, or working on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch

from recsys import ncf_training
from recsys.devices import available_cores
from recsys.models import autoencoder_training


@dataclass(frozen=True)
class Fairly:
    """How speed is taken: by the clock on the wall, or, where other work keeps the machine busy, by processor time."""

    now: Callable[[], float]
    threads: int
    words: str

    @classmethod
    def here(cls) -> Fairly:
        """Two threads and the clock on a calm machine; on a busy one a thread and its processor time. Sets threads."""
        busy = os.getloadavg()[0] > available_cores()
        threads = 1 if busy else min(2, available_cores())
        torch.set_num_threads(threads)
        if busy:
            return cls(time.process_time, threads, "by processor time, one thread: the machine was busy")
        return cls(time.perf_counter, threads, f"{threads} threads")


@dataclass
class Clock:
    """Seconds of every step: what it waited for its batch, and what it worked."""

    now: Callable[[], float] = time.perf_counter
    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    total: float = 0.0
    """By ``now``, from the first batch's asking to the last one's end."""

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
        source, began, before = iter(batches), self.now(), time.perf_counter()
        for batch in source:
            arrived = time.perf_counter()
            yield batch
            done = time.perf_counter()
            self.waited.append(arrived - before)
            self.worked.append(done - arrived)
            before = time.perf_counter()
        self.total += self.now() - began


@contextmanager
def autoencoder_clock(now: Callable[[], float] = time.perf_counter) -> Iterator[Clock]:
    """Time the steps of every user autoencoder that is trained in the block."""
    clock, real = Clock(now), autoencoder_training.ahead
    with patch.object(autoencoder_training, "ahead", lambda batches: clock.over(real(batches))):
        yield clock


@contextmanager
def ncf_clock(now: Callable[[], float] = time.perf_counter) -> Iterator[Clock]:
    """Time the epochs of every NCF that is trained in the block, without validation.

    Waiting is the gathering of pairs: what ``PairTensors.logits`` does beside the network. All else is work.
    """
    clock, tensors, training = Clock(now), ncf_training.PairTensors, ncf_training._Training
    real_logits, real_epoch = tensors.logits, training._epoch

    def logits(self: Any, network: Any, users: Any) -> Any:
        passes = []

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            found = network(*arguments)
            passes.append(time.perf_counter() - began)
            return found

        began = time.perf_counter()
        found = real_logits(self, timed, users)
        clock.waited.append(time.perf_counter() - began - sum(passes))
        return found

    def epoch(self: Any, *arguments: Any) -> Any:
        began, wall, waited = now(), time.perf_counter(), len(clock.waited)
        with patch.object(tensors, "logits", logits):
            found = real_epoch(self, *arguments)
        clock.total += now() - began
        clock.worked.append(time.perf_counter() - wall - sum(clock.waited[waited:]))
        return found

    with patch.object(training, "_epoch", epoch):
        yield clock
