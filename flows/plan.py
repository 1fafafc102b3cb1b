"""A dry run: the night's chain walked with the artefacts that exist, stopping at what would have to be made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from flows.engine import new_run
from recsys.artefacts import ArtefactRef, ArtefactStore
from recsys.config import Config
from recsys.data.ingest import ingested
from tasks.run import Run

_ACTS = {"log_dataset_input", "log_models", "decide", "register_model", "audit_and_publish"}
"""Steps without an artefact of their own: they ask MLflow, or change what is served. Never done in a dry run."""


@dataclass(frozen=True)
class PlannedStep:
    """A step, and whether its artefact is there already."""

    step: str
    plan: str
    artefact: str = ""


class NotThereError(Exception):
    """A step would have to make its artefact."""


class _ReadingStore(ArtefactStore):
    """Finds artefacts, makes none. A step looks for its artefact first: where there is none it would go to work."""

    def find(self, kind: str, parents: Mapping[str, str], configuration: Mapping[str, Any]) -> ArtefactRef:
        found = super().find(kind, parents, configuration)
        if found is None:
            raise NotThereError(kind)
        return found

    def create(self, kind: str, *_: Any, **__: Any) -> NoReturn:
        raise NotThereError(kind)


class _PlannedRun(Run):
    """A run whose records go nowhere and whose store makes nothing."""

    records: Path

    @property
    def store(self) -> ArtefactStore:
        return _ReadingStore(self.home)

    @property
    def folder(self) -> Path:
        return self.records


_UNKNOWN = ArtefactRef(kind="unknown", path="", digest="")
"""What a step that was not run would give."""


class _DrySteps:
    """Calls a step only as far as its artefact is there."""

    name = "plan"

    def __init__(self) -> None:
        self.plan: list[PlannedStep] = []

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        name = task.name
        if task.fn.__name__ in _ACTS:
            return self._note(PlannedStep(name, "always done"))
        if _UNKNOWN in _inputs((*args, *kwargs.values())):
            return self._note(PlannedStep(name, "would run, unless its inputs come out as before"))
        try:
            ref = task.fn(*args, **kwargs)
        except NotThereError:
            return self._note(PlannedStep(name, "would run"))
        self._note(PlannedStep(name, "reused", f"{ref.kind}/{ref.digest}"))
        return ref

    def dataset(self, run: Run) -> ArtefactRef:
        """What `ingest` would give. It reads its source before it can tell, so it is asked in another way."""
        earlier = ingested(run.config.source, run.home)
        if earlier is None:
            return self._note(PlannedStep("ingest", "would run"))
        self._note(PlannedStep("ingest", "reused", f"dataset/{earlier.dataset.digest}"))
        return earlier.dataset

    def submit(self, task: Any, *args: Any) -> Any:
        return self.call(task, *args)

    def gather(self, *handles: Any) -> tuple[Any, ...]:
        return handles

    def _note(self, step: PlannedStep) -> ArtefactRef:
        self.plan.append(step)
        return _UNKNOWN


def plan_of(config: Config, run_date: date) -> list[PlannedStep]:
    """What `marquee nightly` would do now. Trains nothing, publishes nothing, leaves no record."""
    from flows.nightly import publish, train
    from tasks.validate import validate

    steps = _DrySteps()
    with tempfile.TemporaryDirectory() as records:
        run = _PlannedRun(**dict(new_run(config, run_date)), records=Path(records))
        validated = steps.call(validate, run, steps.dataset(run))
        train(run, steps, validated)
        publish(run, steps, validated, _UNKNOWN, _UNKNOWN)
    return steps.plan


def _inputs(values: Iterable[Any]) -> Iterator[Any]:
    """Arguments, with what they hold of references (a night's trained models)."""
    for value in values:
        yield value
        if isinstance(value, BaseModel) and not isinstance(value, Run):
            yield from _inputs(part for _, part in value)
