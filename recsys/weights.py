"""How models persist: arrays in ``model.safetensors``, the rest in ``model.json``; equal models, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from recsys.errors import ArtefactError

ARRAYS, SETTINGS = "model.safetensors", "model.json"
_DTYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}
"""Of arrays that are mapped."""


def save_weights(folder: Path, kind: str, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a model: its kind (a class name), JSON settings, and arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / ARRAYS)
    text = json.dumps({"kind": kind, **settings}, sort_keys=True, indent=1)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_weights(folder: Path, kind: str, *, mapped: bool = False) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what :func:`save_weights` wrote: settings and arrays.

    Args:
        folder: where.
        kind: that it must be.
        mapped: arrays are mapped, read-only, not copied: of large ones only what is used is read.

    Raises:
        ArtefactError: a file is missing or damaged, or holds a model of another kind.
    """
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = _map(folder / ARRAYS) if mapped else load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtefactError(
            f"the {kind} model cannot be read ({error})", where=str(folder), remedy="run the step that makes it again"
        ) from None
    found = settings.pop("kind", None)
    if found != kind:
        raise ArtefactError(f"holds a {found} model, not a {kind}", where=str(folder), remedy="name the right folder")
    return settings, arrays


def _map(path: Path) -> dict[str, NDArray[Any]]:
    with safe_open(path, "np"):  # the library checks the header, and that the file is as long as it says
        raw = np.memmap(path, np.uint8, mode="r")
    start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
    header: dict[str, Any] = json.loads(raw[8:start].tobytes())
    header.pop("__metadata__", None)
    return {name: _view(raw[start:], **about) for name, about in header.items()}


def _view(raw: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[Any]:
    return np.asarray(raw[slice(*data_offsets)]).view(_DTYPES[dtype]).reshape(shape)
