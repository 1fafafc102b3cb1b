"""How a model is made, apart from its data: what tells a refresh of the champion from a new contender."""

from __future__ import annotations

import hashlib
from typing import Any

from recsys.artefacts import canonical_json, code_version
from tasks.run import Run
from tasks.trained import AUTOENCODER, BLEND, NCF

_SECTIONS = {
    NCF: ("autoencoder", "content", "ncf", "baselines"),
    BLEND: ("autoencoder", "content", "ncf", "baselines"),
    AUTOENCODER: ("autoencoder",),
}
"""Family → the sections of the configuration that shape it. Closed-form models are tuned anew every night."""


def recipe(run: Run, family: str) -> str:
    """The digest of all that shapes a model of this family but the data: settings, seed, the program itself.

    Two models of one recipe, fitted on the same data, are the same model. Strict: another seed, or another Marquee,
    is another recipe, and has to prove itself.
    """
    config = run.config
    made_of: dict[str, Any] = {
        "family": family,
        "seed": config.seed,
        "positive_from": config.ratings.positive_from,
        "max_items": config.baselines.max_items,
        "code": code_version(),
        **config.model_dump(mode="json", include=set(_SECTIONS.get(family, ()))),
    }
    return hashlib.sha256(canonical_json(made_of).encode()).hexdigest()[:32]
