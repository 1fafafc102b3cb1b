"""What a night has trained, as references, and the candidates that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from recsys.artefacts import ArtefactRef, verified_file

NCF, BLEND, AUTOENCODER = "ncf", "blend", "user_autoencoder"
_WHOLE = ("split", "autoencoder", "content", "baselines", "ncf")
SERVABLE_PARTS = {NCF: _WHOLE, BLEND: _WHOLE, AUTOENCODER: ("split", "autoencoder")}
"""Family → what a model of it is made from. Any other family is a baseline."""


class Trained(BaseModel):
    """The references that training gave. A part is None where it was not trained (an evaluation of some models)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: ArtefactRef
    autoencoder: ArtefactRef | None = None
    content: ArtefactRef | None = None
    baselines: ArtefactRef | None = None
    ncf: ArtefactRef | None = None

    def parents(self, family: str) -> dict[str, str]:
        """Digests of what a model of this family is made from."""
        parts = {name: getattr(self, name) for name in SERVABLE_PARTS.get(family, ("split", "baselines"))}
        return {name: ref.digest for name, ref in parts.items() if ref is not None}

    def fitted(self) -> Iterator[tuple[str, str, Path]]:
        """(name, family, folder) of every candidate's measured copy."""
        if self.baselines is not None:
            for name in self.tuned():
                yield name, name, self.baselines.file(f"{name}/fit")
        if self.autoencoder is not None:
            yield AUTOENCODER, AUTOENCODER, self.autoencoder.file("fit")
        if self.ncf is not None:
            yield NCF, NCF, self.ncf.file("measured")
            yield BLEND, BLEND, self.ncf.file("measured")  # the first stage alone: what NCF has to beat

    def tuned(self) -> dict[str, dict[str, Any]]:
        """Parameters and validation figures of each baseline, by name."""
        if self.baselines is None:
            return {}
        report: dict[str, dict[str, Any]] = json.loads(verified_file(self.baselines, "baselines.json").read_text())
        return report
