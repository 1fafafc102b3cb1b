"""Trainers on a Ray cluster: one model on several ranks with Ray Train, or a trainer as a task of its own.

The work folder, with its checkpoints, must lie on storage that all machines of the cluster share. A worker that dies
is replaced; the function goes on from its last checkpoint, as it would in a new run. Not run on a GPU here: the ranks
then meet over nccl, each with a device of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
import ray.train.torch

from recsys.config import ComputeConfig
from recsys.devices import assign
from recsys.distributed import this_group
from recsys.errors import MarqueeError, TrainingError
from recsys.tracker import NullTracker, Tracker
from recsys.workers import ChildResult, peak_rss_bytes
from tasks.engines.ray_cluster import threads_per_worker, uses_gpus

MAX_FAILURES = 3
"""Times that a trainer's lost workers are replaced."""
_POLL_SECONDS = 0.2


def train(
    compute: ComputeConfig,
    function: Callable[..., Any],
    args: Sequence[object],
    kwargs: Mapping[str, Any],
    *,
    together: bool,
    name: str,
    tracker: Tracker,
    log: Path,
) -> ChildResult[Any]:
    """Run ``function`` on every rank of a group, or as a task of its own: see :func:`tasks.engines.train`.

    Raises:
        MarqueeError: as a worker raised it: it would do so again.
        TrainingError: workers were lost more than :data:`MAX_FAILURES` times, or it raised anything else.
    """
    order = _order(compute, function, args, kwargs, name)
    work = _on_every_rank(compute, order, log) if together else _as_a_task(order)
    return _heard(work, order["mailbox"], name, tracker, log)


def _on_every_rank(compute: ComputeConfig, order: dict[str, Any], log: Path) -> Callable[[], Any]:
    """Ray Train's TorchTrainer; the leader's value is the result."""
    trainer = ray.train.torch.TorchTrainer(
        _rank,
        train_loop_config=order,
        scaling_config=ray.train.ScalingConfig(
            num_workers=compute.workers,
            use_gpu=order["gpu"],
            resources_per_worker={"CPU": order["threads"], **({"GPU": 1} if order["gpu"] else {})},
        ),
        run_config=ray.train.RunConfig(
            name=order["name"].replace(" ", "-"),
            storage_path=str((log.parent / "ray").resolve()),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    fit: Callable[[], Any] = trainer.fit
    return fit


def _as_a_task(order: dict[str, Any]) -> Callable[[], Any]:
    """A task somewhere on the cluster, in a process of its own."""
    options = {"num_cpus": order["threads"], "num_gpus": int(order["gpu"]), "max_retries": MAX_FAILURES, "max_calls": 1}
    task = ray.remote(**options)(_task)
    return lambda: ray.get(task.remote(order))


class _Mailbox:
    """An actor: what workers have to say, until the run's process takes it."""

    def __init__(self) -> None:
        self.letters: list[tuple[Any, ...]] = []
        self.begun = 0
        self.failed = False

    def begin(self) -> bool:
        """A leader has begun; whether there is any use in it."""
        self.begun += 1
        if self.begun > 1 and not self.failed:
            self.put("lost")
        return not self.failed

    def put(self, *letter: Any) -> None:
        self.failed |= letter[0] == "failed"
        self.letters.append(letter)

    def take(self) -> list[tuple[Any, ...]]:
        letters, self.letters = self.letters, []
        return letters


class _MailTracker:
    """A Tracker on a worker: what it hears goes to the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def params(self, values: Mapping[str, object]) -> None:
        self._mailbox.put.remote("params", dict(values))

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        self._mailbox.put.remote("epoch", number, total, dict(metrics))

    def note(self, text: str) -> None:
        self._mailbox.put.remote("note", text)


def _order(
    compute: ComputeConfig, function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """All that a worker must know: it is pickled."""
    return {
        "function": function,
        "args": [_absolute(value) for value in args],
        "kwargs": {key: _absolute(value) for key, value in kwargs.items() if key not in ("device", "precision")},
        "precision": compute.precision,
        "name": name,
        "threads": threads_per_worker(compute),
        "gpu": uses_gpus(compute),
        "mailbox": ray.remote(num_cpus=0)(_Mailbox).remote(),
    }


def _absolute(value: Any) -> Any:
    """Paths as a worker can use them, whose working directory is another; those in a dataclass too."""
    if isinstance(value, Path):
        return value.resolve()
    if is_dataclass(value) and not isinstance(value, type):
        paths = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **{name: path.resolve() for name, path in paths.items() if isinstance(path, Path)})
    return value


def _rank(order: dict[str, Any]) -> None:
    """What Ray Train runs on every worker."""
    device = str(ray.train.torch.get_device())
    group = this_group(device)
    tracker = _MailTracker(order["mailbox"]) if group.leads else NullTracker()
    begun = order["mailbox"].begin.remote() if group.leads else None
    useful = group.leaders(lambda: float(ray.get(begun)))
    if useful:
        _work(order, device, tracker, leads=group.leads, group=group)


def _task(order: dict[str, Any]) -> None:
    """What a worker runs that trains alone."""
    ray.get(order["mailbox"].begin.remote())
    _work(order, "cuda:0" if order["gpu"] else "cpu", _MailTracker(order["mailbox"]), leads=True)


def _work(order: dict[str, Any], device: str, tracker: Tracker, *, leads: bool, **more: Any) -> None:
    import torch

    torch.set_num_threads(order["threads"])
    place = assign(1, device=device, precision=order["precision"])[0]
    mailbox = order["mailbox"]
    try:
        value = order["function"](
            *order["args"], **order["kwargs"], **more, device=place.device, precision=place.precision, tracker=tracker
        )
    except MarqueeError as error:
        ray.get(mailbox.put.remote("failed", error))
        raise
    ray.get(mailbox.put.remote("peak", peak_rss_bytes()))
    if leads:
        ray.get(mailbox.put.remote("done", value))


def _heard(work: Callable[[], Any], mailbox: Any, name: str, tracker: Tracker, log: Path) -> ChildResult[Any]:
    """Do the work in a thread, and hand on what the workers say, in this one, until it is done."""
    began = time.monotonic()
    faults: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # told below, in the thread that asked
            faults.append(error)

    thread = threading.Thread(target=guarded, name=f"ray {name}", daemon=True)
    thread.start()
    letters = _Letters(name, tracker)
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            letters.read(ray.get(mailbox.take.remote()))
        ray.kill(mailbox)
    except ray.exceptions.RayError as error:  # the mailbox is gone, and the cluster with it
        faults.append(error)
    if letters.failure is not None:
        raise letters.failure
    if faults or not letters.done:
        raise _lost(faults, name, log)
    return ChildResult(letters.value, letters.peak, seconds=time.monotonic() - began)


class _Letters:
    """What has been heard of a training so far."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.value: Any = None
        self.done = False
        self.peak = 0
        """Of all ranks together, in bytes."""
        self.failure: MarqueeError | None = None
        self._name, self._tracker = name, tracker

    def read(self, letters: Sequence[tuple[Any, ...]]) -> None:
        for kind, *content in letters:
            if kind == "done":
                self.value, self.done = content[0], True
            elif kind == "peak":
                self.peak += content[0]
            elif kind == "failed":
                self.failure = self.failure or content[0]
            elif kind == "lost":
                self._tracker.note(f"a process of the {self._name} was lost: new ones go on from its last checkpoint")
            else:
                getattr(self._tracker, kind)(*content)


def _lost(faults: Sequence[BaseException], name: str, log: Path) -> TrainingError:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{type(fault).__name__}: {fault}\n" for fault in faults)
    cause = type(faults[-1]).__name__ if faults else "no result"
    return TrainingError(
        f"the {name} failed on Ray ({cause})",
        where=str(log),
        remedy="what it died of is in that file; the same command goes on from its last epoch",
    )
