"""The bench: data, splits and trained models of every dataset, each made once and found again by a later run.

A training is an artefact under ``<home>/<what>-<fingerprint of its code>/``; what is only measured is kept as JSON
under ``<home>/figures/``. As many heavy steps run at a time as there are cores, each on one thread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.quality.datasets import DATASETS, Place
from benchmarks.quality.sources import fingerprint
from recsys.artefacts import ArtefactRef, canonical_json, write_text
from recsys.config import ComputeConfig, Config, SourceConfig, SplitConfig, ValidationConfig
from recsys.data.split import Split
from recsys.plugins import resolve
from recsys.rivals import families_to_run
from recsys.tracker import NullTracker
from recsys.workers import run_in_child
from tasks.autoencoder import train_autoencoder
from tasks.baselines import baselines_of, fit_rival
from tasks.content import train_content_cnn
from tasks.ingest import ingest
from tasks.ncf import train_ncf
from tasks.run import Run
from tasks.split import make_split
from tasks.trained import Trained
from tasks.validate import validate

T = TypeVar("T")
Figures = dict[str, Any]

CODE: Mapping[str, tuple[str, ...]] = {
    "user_autoencoder": ("recsys.autoencoder_copies",),
    "content_cnn": ("recsys.content_copies",),
    "rivals": ("recsys.rivals", "recsys.ring_runs"),
    "ncf": ("recsys.two_stage_copies", "recsys.families"),
}
"""Trainings, and the modules whose code (with all that they import) decides what comes of them."""
DATA = "data"


@dataclass(frozen=True)
class Bench:
    """Where the benchmark works."""

    home: Path
    given: Path
    """Holds ml-latest-small/ and tmdb-5000/, or does not: then what needs them is left out."""
    downloads: Path | None = None
    """Downloads of ordinary nights, used where they are there."""
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))
    """Heavy steps at a time."""
    budget: int | None = None
    """Most settings tried of a rival that trains with early stopping; None: as the ring does."""
    base: Config = field(default_factory=Config)
    """The models' configuration: as it is by default."""
    say: Callable[[str], None] = print
    seconds: dict[str, float] = field(default_factory=dict)
    """Of what was made in this run, by name."""
    _locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def place(self) -> Place:
        """Where data lie, and where made ones go."""
        return Place(self.given, self.home / "made")

    @property
    def seed(self) -> int:
        """Of trainings and of intervals."""
        return self.base.seed

    def run(self, what: str, config: Config | None = None) -> Run:
        """A run for one kind of training, in the home that its code has."""
        name = what if what not in CODE else f"{what}-{fingerprint(*CODE[what])}"
        config = (config or self.base).model_copy(
            update={
                "home": self.home / name,
                "compute": ComputeConfig(device="cpu", threads=1),
                "validation": ValidationConfig(allow_row_change=True),
            }
        )
        now = datetime.now(UTC)
        return Run(run_id=f"bench-{what}", run_date=now.date(), config=config, started_at=now)

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a core, then hold it; says what was done and how long it took."""
        with self.slots:
            began = time.monotonic()
            yield
            took = time.monotonic() - began
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 1)
            if took > 1:
                self.say(f"{datetime.now(UTC):%H:%M:%S} {name}: {took:,.0f} s")

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """No two threads make the same thing."""
        with self._guard:
            lock = self._locks[key]
        with lock:
            yield

    def validated(self, name: str) -> ArtefactRef:
        """The validated data of a dataset (whatever its split)."""
        dataset = DATASETS[name]
        with self.alone(f"data {dataset.source.__name__}"):
            self._bring_downloads()
            source = dataset.source(self.place, self.validated)
            run = self._data_run(dataset.name, source, dataset.split)
            with self.slot(f"{name}: data"):
                return validate.fn(run, ingest.fn(run))

    def split(self, name: str, **changes: Any) -> ArtefactRef:
        """The split of a dataset, or another one of the same data: ``changes`` to its split's configuration."""
        validated = self.validated(name)
        configuration = DATASETS[name].split.model_copy(update=changes)
        with self.alone(f"split {name} {configuration}"):
            return make_split.fn(self._data_run(name, SourceConfig(), configuration), validated)

    def derived(self, name: str, of: ArtefactRef, change: Callable[[Split], Split]) -> ArtefactRef:
        """A split made from another one, such as one without order."""
        store = self._data_run(name, SourceConfig(), SplitConfig()).store
        configuration = {"derived": name, "code": fingerprint("recsys.data.split")}
        with self.alone(f"derived {name} {of.digest}"):
            found = store.find("split", {"split": of.digest}, configuration)
            if found is None:
                split = change(Split.load(Path(of.path)))
                with store.create("split", {"split": of.digest}, configuration) as (draft, found):
                    split.save(draft.path)
                    draft.rows.update(interactions=len(split.part), users=len(split.users), titles=len(split.items))
                    draft.summary["strategy"] = split.strategy
            return found

    def _data_run(self, name: str, source: SourceConfig, split: SplitConfig) -> Run:
        run = self.run(DATA, Config(source=source, split=split))
        return run.model_copy(update={"run_id": f"bench-{DATA}-{name}"})

    def _bring_downloads(self) -> None:
        target = self.home / DATA / "downloads"
        if self.downloads is not None and self.downloads.is_dir() and not target.exists():
            shutil.copytree(self.downloads, target)

    def trained(self, name: str, split: ArtefactRef) -> Trained:
        """The night's models on a split: towers beside each other, then the second stage."""
        towers = self.towers(name, split)
        parts = [towers.autoencoder, towers.content, towers.baselines]
        ncf = self.made("ncf", train_ncf, name, split, *(part for part in parts if part is not None))
        return towers.model_copy(update={"ncf": ncf})

    def towers(self, name: str, split: ArtefactRef) -> Trained:
        """The first stage of a night's models: no NCF."""
        autoencoder, content, baselines = together(
            lambda: self.made("user_autoencoder", train_autoencoder, name, split),
            lambda: self.made("content_cnn", train_content_cnn, name, split),
            lambda: self.baselines(name, split),
        )
        return Trained(split=split, autoencoder=autoencoder, content=content, baselines=baselines)

    def made(self, what: str, task: Any, name: str, split: ArtefactRef, *parents: ArtefactRef) -> ArtefactRef:
        """What a task of the night makes of a split and of other artefacts."""
        run = self.training_run(what, name, split)
        with self.alone(f"{what} {split.digest}"), self.slot(f"{name}: {what}"):
            made: ArtefactRef = task.fn(run, split, *parents)
            return made

    def baselines(self, name: str, split: ArtefactRef) -> ArtefactRef:
        """The closed-form rivals, put together as a night has them."""
        run = self.training_run("rivals", name, split)
        families = families_to_run(run.config.baselines, ordered=Split.load(Path(split.path)).interactions.ordered)
        fitted = together(*(partial(self.rival, name, split, family) for family in families))
        with self.alone(f"baselines {split.digest}"):
            return baselines_of(run, split, dict(zip(families, fitted, strict=True)))

    def rival(self, name: str, split: ArtefactRef, spec: str) -> ArtefactRef:
        """One rival, tuned and fitted: ours by name, others as ``module:attribute``."""
        run, rival = self.training_run("rivals", name, split), resolve(spec)
        with self.alone(f"{spec} {split.digest}"), self.slot(f"{name}: {rival.name}"):
            return fit_rival(run, split, rival, self.budget if rival.family.validated else None)

    def training_run(self, what: str, name: str, split: ArtefactRef) -> Run:
        """A run for one kind of training on one split."""
        return self.run(what).model_copy(update={"run_id": f"bench-{name}-{split.digest[:8]}".replace(" ", "-")})

    def measured(self, name: str, key: Mapping[str, Any], function: Callable[..., Figures], *args: object) -> Figures:
        """What a function in a process of its own found, kept under everything that it depends on.

        Args:
            name: for the log, such as "sample: without the MLP".
            key: names the experiment: digests of its data and parts, settings, code.
            function: importable by name; takes ``args`` and ``tracker``, gives what JSON can hold.
            args: paths and settings.
        """
        digest = hashlib.sha256(canonical_json({"function": function.__qualname__, **key}).encode()).hexdigest()[:24]
        path = self.home / "figures" / f"{digest}.json"
        with self.alone(digest):
            if path.is_file():
                found: Figures = json.loads(path.read_text())["found"]
                return found
            with self.slot(name):
                log = self.home / "logs" / f"{digest}.log"
                child = run_in_child(function, *args, name=name, threads=1, tracker=NullTracker(), log=log)
            write_text(path, json.dumps({"name": name, "key": dict(key), "found": child.value}, default=str) + "\n")
            return child.value


def together(*functions: Callable[[], T]) -> list[T]:
    """Call functions in threads of their own; all of them end before the first failure is raised."""
    with ThreadPoolExecutor(max_workers=max(1, len(functions))) as pool:
        futures = [pool.submit(function) for function in functions]
    return [future.result() for future in futures]
