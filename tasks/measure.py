"""Models of the ring, measured one by one: each in a process of its own, and once, as its artefact stays."""

from __future__ import annotations

from pathlib import Path

from recsys.artefacts import ArtefactRef, read_manifest, verify
from recsys.ring_runs import measure_model
from tasks.children import in_child
from tasks.run import Run, stage

KIND = "evaluation"
STAGE = "measure"


def measure(run: Run, split: ArtefactRef, model: ArtefactRef, name: str, spec: str, copy: str) -> ArtefactRef:
    """Measure a model on the test window: the artefact holds an :class:`recsys.evaluation.Evaluation`.

    The manifest's summary holds ``metrics``, ``users``, ``seconds`` (of scoring and ranking) and ``cost``. A model that
    was measured on the split before is not measured again.

    Args:
        run: the run.
        split: whose test window is foretold.
        model: the artefact that the model lies in.
        name: the model's, as results show it.
        spec: its family, or ``module:attribute``.
        copy: the folder in the artefact of the copy fitted on train and validation.

    Raises:
        ArtefactError: the model is damaged.
        TrainingError: it failed, or its process was killed.
    """
    with stage(run, f"{STAGE}-{name}") as record:
        users = run.config.gate.users
        parents = {"split": split.digest, "model": model.digest}
        configuration = {"name": name, "copy": copy, "users": users}
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            verify(split)
            verify(model)
            with run.store.create(KIND, parents, configuration) as (draft, found):
                result = in_child(
                    run,
                    measure_model,
                    Path(split.path),
                    model.file(copy),
                    spec,
                    draft.path,
                    users=users,
                    stage=f"{STAGE}-{name}",
                    name=name,
                )
                record.peak_rss_bytes = result.peak_rss_bytes
                draft.rows["users"] = result.value["users"]
                draft.summary.update(result.value, cost=result.cost)
        record.artefact, record.rows = found, read_manifest(found).rows["users"]
        return found
