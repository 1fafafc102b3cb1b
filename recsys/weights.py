"""How models persist: arrays in ``model.safetensors``, the rest in ``model.json``; equal models, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.errors import ArtefactError

ARRAYS, SETTINGS = "model.safetensors", "model.json"


def save_weights(folder: Path, kind: str, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a model: its kind (a class name), JSON settings, and arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / ARRAYS)
    text = json.dumps({"kind": kind, **settings}, sort_keys=True, indent=1)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_weights(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what :func:`save_weights` wrote: settings and arrays.

    Raises:
        ArtefactError: a file is missing or damaged, or holds a model of another kind.
    """
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtefactError(
            f"the {kind} model cannot be read ({error})", where=str(folder), remedy="run the step that makes it again"
        ) from None
    found = settings.pop("kind", None)
    if found != kind:
        raise ArtefactError(f"holds a {found} model, not a {kind}", where=str(folder), remedy="name the right folder")
    return settings, arrays
