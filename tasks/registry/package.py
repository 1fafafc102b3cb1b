"""A bundle as an MLflow model: models-from-code, safetensors, its own copy of ``recsys``, explicit requirements."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import recsys
from recsys.artefacts import ArtefactRef

MODEL_CODE = Path(__file__).parent.parent / "pyfunc_model.py"
REQUIREMENTS = (
    "mlflow", "torch", "numpy", "scipy", "pyarrow", "pandas", "safetensors", "pydantic", "tokenizers", "implicit",
    "threadpoolctl",
)  # fmt: skip
"""What the registered model needs to answer; :mod:`recsys` comes with it."""


def save_package(folder: Path, bundle: ArtefactRef, *, run_id: str, model_id: str) -> None:
    """Write an MLflow model directory for a bundle.

    Args:
        folder: where to; must not exist.
        bundle: the ``model`` artefact; copied whole, manifest included, so that it can be verified wherever it goes.
        run_id: the MLflow run that it belongs to.
        model_id: MLflow's logged model that it becomes.
    """
    import mlflow
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        path=str(folder),
        mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        python_model=str(MODEL_CODE),
        artifacts={"bundle": bundle.path},
        code_paths=[str(Path(recsys.__file__).parent)],
        pip_requirements=requirements(),
        signature=signature(),
        input_example=input_example(),
        metadata={"marquee.model_digest": bundle.digest},
    )


def requirements() -> list[str]:
    """Exact requirements, as installed here. Build tags (``+cpu``) are left out: they are not on every index."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def signature() -> Any:
    """Rows of ``user_id`` or ``history``; the parameter ``n``; lists of titles back.

    ``history`` is a list of text. It is declared as "any" because MLflow refuses a batch in which one row of a declared
    list has none (JSON records that mix both kinds of rows); the model says itself what is wrong with one.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string, "user_id", required=False),
                ColSpec(AnyType(), "history", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(Array(DataType.string), "item_ids"),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(DataType.string, "basis"),
            ]
        ),
        params=ParamSchema([ParamSpec("n", DataType.long, 20)]),
    )


def input_example() -> Any:
    """Two rows, made up: one asks by user, one brings a history."""
    import pandas as pd

    return pd.DataFrame({"user_id": ["a-user", None], "history": [None, ["50", "181"]]})
