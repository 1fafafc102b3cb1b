"""Checkpoints of a training that may be killed at any moment: one safetensors file, replaced whole.

The tensors are what the next epoch needs; the small rest (epoch, best figure, curves) travels as JSON in the file's
header, so that the two can never disagree. Knows nothing of the model.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.artefacts import fsync

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A training as it stood at the end of an epoch."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The place where one training keeps its newest checkpoint."""

    def __init__(self, folder: Path, identity: str, *, every_seconds: float = 0.0) -> None:
        """Keep checkpoints in a folder.

        Args:
            folder: made when it is needed.
            identity: what the training is of (data, settings, seed). A checkpoint of another identity is ignored.
            every_seconds: least time between two checkpoints; short epochs would else spend their time on writing.
        """
        self._path = folder / _FILE
        self._identity = identity
        self._every = every_seconds
        self._written = -float("inf")

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._written >= self._every

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: a reader finds the old one or the new, never a part."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        header = {"identity": self._identity, "state": json.dumps(dict(state))}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, draft, header)
        fsync(draft)
        draft.replace(self._path)
        fsync(self._path.parent)
        self._written = time.monotonic()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint of this very training, or None. A damaged one counts as none."""
        try:
            with safe_open(self._path, framework="pt") as file:
                header = file.metadata()
                if header.get("identity") != self._identity:
                    return None
                return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, json.loads(header["state"]))  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the folder: the training has ended."""
        shutil.rmtree(self._path.parent, ignore_errors=True)
