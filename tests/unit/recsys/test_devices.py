from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from recsys.devices import Assignment, Pieces, assign, autocast, available_cores, out_of_memory, to_device, turn
from recsys.errors import ConfigError, TrainingError
from recsys.tracker import NullTracker


def test_two_jobs_get_a_cuda_device_each() -> None:
    assert assign(2, cuda_devices=2, cores=8) == [
        Assignment("cuda:0", 4, "bfloat16"),
        Assignment("cuda:1", 4, "bfloat16"),
    ]


def test_two_jobs_share_one_cuda_device() -> None:
    assert [job.device for job in assign(2, cuda_devices=1, cores=2)] == ["cuda:0", "cuda:0"]


def test_on_the_cpu_threads_are_split_but_never_below_one() -> None:
    assert assign(2, cuda_devices=0, cores=7) == [Assignment("cpu", 3, "float32")] * 2
    assert assign(3, cuda_devices=0, cores=2)[0].threads == 1
    assert assign(2, cuda_devices=0, threads=6, cores=64)[0].threads == 3


def test_a_named_device_is_used_for_every_job() -> None:
    assert [job.device for job in assign(2, device="cuda:1", cuda_devices=2, cores=2)] == ["cuda:1", "cuda:1"]


def test_cpu_is_kept_where_there_is_a_device() -> None:
    assert assign(1, device="cpu", cores=2)[0] == Assignment("cpu", 2, "float32")


def test_an_asked_for_device_that_is_missing_falls_back_to_the_cpu_and_says_so() -> None:
    job = assign(1, device="cuda", cuda_devices=0, cores=2)[0]
    assert job.device == "cpu"
    assert "no CUDA device was found" in job.note
    assert assign(1, device="auto", cuda_devices=0, cores=2)[0].note == ""


def test_a_wrong_number_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no device 'cuda:3': this machine has 2 CUDA devices. Set it to auto"):
        assign(1, device="cuda:3", cuda_devices=2)


def test_precision_can_be_set() -> None:
    assert assign(1, precision="float32", cuda_devices=1, cores=1)[0].precision == "float32"
    assert assign(1, precision="bfloat16", cuda_devices=0, cores=1)[0].precision == "bfloat16"


def test_the_machine_is_asked_where_nothing_is_given() -> None:
    job = assign(1)[0]
    assert job.threads == available_cores() >= 1
    assert (job.device == "cpu") == (not torch.cuda.is_available())


def test_autocast_computes_in_bfloat16_only_where_asked() -> None:
    a = torch.ones(2, 2)
    with autocast("cpu", "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with autocast("cpu", "float32"):
        assert (a @ a).dtype == torch.float32


class CudaTensor(torch.Tensor):
    """Notes how it would have travelled: there is no GPU here."""

    way: list[tuple[object, ...]] = []  # noqa: RUF012

    def pin_memory(self, device: object = None) -> CudaTensor:
        self.way.append(("pinned",))
        return self

    def to(self, *args: object, **kwargs: object) -> CudaTensor:  # type: ignore[override]
        self.way.append((*args, kwargs))
        return self


def test_towards_cuda_batches_go_pinned_and_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.ones(3).as_subclass(CudaTensor)
    monkeypatch.setattr(torch, "from_numpy", lambda values: batch)
    for values in (batch, np.ones(3)):
        CudaTensor.way.clear()
        assert to_device(values, "cuda:1") is batch
        assert CudaTensor.way == [("pinned",), ("cuda:1", {"non_blocking": True})]


def test_on_the_cpu_a_batch_is_the_arrays_own_memory() -> None:
    values = np.arange(3)
    there = to_device(values, "cpu")
    values[0] = 7
    assert there.tolist() == [7, 1, 2]
    assert to_device(there, "cpu") is there


def test_jobs_on_one_cuda_device_take_turns_and_on_the_cpu_do_not() -> None:
    def entered_while_held(device: str) -> bool:
        entered = threading.Event()

        def second() -> None:
            with turn(device):
                entered.set()

        with turn(device):
            other = threading.Thread(target=second)
            other.start()
            inside = entered.wait(0.2)
        other.join()
        return inside

    assert not entered_while_held("cuda:7")
    assert entered_while_held("cpu")


class Notes(NullTracker):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_a_batch_that_does_not_fit_is_done_again_in_halves_and_later_ones_start_there() -> None:
    notes, done, resets = Notes(), [], []

    def step(users: np.ndarray[Any, Any]) -> float:
        done.append(len(users))
        if len(users) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return float(users.sum())

    pieces = Pieces(8, trainer="user autoencoder", tracker=notes)
    assert pieces.run(np.arange(8), step, lambda: resets.append(1)) == 28
    assert pieces.run(np.arange(5), step, lambda: resets.append(1)) == 10
    assert done == [8, 4, 2, 2, 2, 2, 2, 2, 1]
    assert len(resets) == 2
    assert notes.texts[-1] == "out of memory: the user autoencoder goes on with 2 users at a time"


def test_memory_that_does_not_suffice_for_one_user_is_an_error() -> None:
    def step(users: np.ndarray[Any, Any]) -> float:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(TrainingError, match="runs out of memory even with one user at a time"):
        Pieces(2, trainer="user autoencoder", tracker=Notes()).run(np.arange(2), step, lambda: None)


def test_other_errors_pass_through() -> None:
    def step(users: np.ndarray[Any, Any]) -> float:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Pieces(2, trainer="x", tracker=Notes()).run(np.arange(2), step, lambda: None)
    assert out_of_memory(MemoryError())
