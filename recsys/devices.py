"""What a training job runs on: its device, its CPU threads, its precision, and what happens when memory runs out.

Knows nothing of models. PyTorch is imported only where a function needs it, so that the parent of the trainers
stays light.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigError, TrainingError
from recsys.tracker import Tracker

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Assignment:
    """What one job may use."""

    device: str
    """``cpu`` or ``cuda:N``."""
    threads: int
    """CPU threads."""
    precision: Precision
    """bfloat16 means autocast: weights stay float32."""
    note: str = ""
    """Something to tell a person: the device that was asked for is not there."""


def assign(
    jobs: int,
    *,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int | None = None,
    cuda_devices: int | None = None,
    cores: int | None = None,
) -> list[Assignment]:
    """Devices and threads for jobs that are started at the same time.

    On CUDA each job gets a device of its own while there are enough, else they share (and take turns: see
    :func:`turn`). CPU threads are split evenly, at least one each.

    Args:
        jobs: how many.
        device: auto | cpu | cuda | cuda:N, as in ``[compute] device``.
        precision: auto is bfloat16 on CUDA and float32 on the CPU.
        threads: CPU threads in all (None: ``cores``).
        cuda_devices: how many CUDA devices there are (None: ask PyTorch).
        cores: how many CPU cores there are (None: those this process may use).

    Raises:
        ConfigError: ``cuda:N`` names a device that does not exist although others do.
    """
    share = max(1, (threads or cores or available_cores()) // jobs)
    count = 0 if device == "cpu" else _cuda_count() if cuda_devices is None else cuda_devices
    if count == 0:
        note = f"no CUDA device was found for [compute] device = {device!r}: training runs on the CPU"
        return [
            Assignment("cpu", share, _precision(precision, "float32"), "" if device in ("auto", "cpu") else note)
        ] * jobs
    names = [f"cuda:{number}" for number in range(count)] if device in ("auto", "cuda") else [device]
    if names[0] not in [f"cuda:{number}" for number in range(count)]:
        raise ConfigError(
            f"there is no device {device!r}: this machine has {count} CUDA device{'s' if count > 1 else ''}",
            where="[compute] device",
            remedy=f"set it to auto, cpu, or one of cuda:0 … cuda:{count - 1}",
        )
    return [Assignment(names[job % len(names)], share, _precision(precision, "bfloat16")) for job in range(jobs)]


def _precision(wanted: Literal["auto", "float32", "bfloat16"], default: Precision) -> Precision:
    return default if wanted == "auto" else wanted


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def turn(device: str) -> Iterator[None]:
    """Hold a CUDA device for the length of the block: jobs of this process that share one run one after another.

    The CPU is shared freely.
    """
    with nullcontext() if device == "cpu" else _turns[device]:
        yield


def to_device(values: NDArray[Any] | Tensor, device: str) -> Tensor:
    """A batch's values on a device: an array, or a tensor of the CPU.

    Towards CUDA they go from pinned memory and without waiting, so that the copy runs beside what the device computes;
    on the CPU nothing is copied. Not run on a GPU here: its tests inject the tensor.
    """
    import torch

    there = values if isinstance(values, torch.Tensor) else torch.from_numpy(values)
    if not device.startswith("cuda"):
        return there.to(device)
    return there.pin_memory().to(device, non_blocking=True)


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    """The context for forward passes: bfloat16 autocast where that is the precision, else nothing."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16)


class Pieces:
    """Runs batches in pieces that fit into memory.

    Starts with whole batches. When memory runs out the batch is done again in halves (gradients add up, so that the
    step stays the same), and later batches start with that size.
    """

    def __init__(self, batch_size: int, *, trainer: str, tracker: Tracker) -> None:
        self.size = batch_size
        self._trainer = trainer
        self._tracker = tracker

    def run(
        self, batch: NDArray[np.integer], step: Callable[[NDArray[np.integer]], float], reset: Callable[[], None]
    ) -> float:
        """Run ``step`` on the pieces of ``batch`` and add up what it returns; ``reset`` undoes a batch half done.

        Raises:
            TrainingError: memory runs out even for a single user.
        """
        while True:
            try:
                return sum(step(batch[start : start + self.size]) for start in range(0, len(batch), self.size))
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            reset()
            self._halve()

    def _halve(self) -> None:
        import torch

        if self.size == 1:
            raise TrainingError(
                f"the {self._trainer} runs out of memory even with one user at a time",
                remedy="use a machine or device with more memory, or make the model smaller",
            )
        self.size = (self.size + 1) // 2
        self._tracker.note(f"out of memory: the {self._trainer} goes on with {self.size} users at a time")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of a CUDA device or of the CPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
