"""Which family of models a scorer is, by name: so that it can be opened from its folder alone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from recsys.errors import ArtefactError
from recsys.scoring import Scorer

FAMILIES: dict[str, str] = {
    "popularity": "recsys.models.baselines:Popularity",
    "recent_popularity": "recsys.models.baselines:RecentPopularity",
    "item_knn": "recsys.models.baselines:ItemKnn",
    "ials": "recsys.models.baselines:Ials",
    "ials_recency": "recsys.models.baselines:Ials",
    "ease": "recsys.models.linear:Ease",
    "ease_recency": "recsys.models.linear:Ease",
    "order_ridge": "recsys.models.linear:OrderAwareRidge",
    "user_autoencoder": "recsys.models.user_autoencoder:UserAutoencoder",
    "companion_autoencoder": "recsys.models.user_autoencoder:UserAutoencoder",
    "content_cnn": "recsys.models.content_cnn:ContentCnn",
    "blend": "recsys.first_stage:Blend",
    "ncf": "recsys.two_stage:TwoStage",
}
"""Family → "module:class". Imported when it is asked for: opening EASE does not load the neural models."""


def load_scorer(family: str, folder: Path) -> Scorer:
    """Open the scorer that was saved in a folder.

    Raises:
        ArtefactError: no such family.
    """
    if family not in FAMILIES:
        raise ArtefactError(
            f"no family of models is called {family!r}",
            where=str(folder),
            remedy=f"known are {', '.join(FAMILIES)}; a newer Marquee may have written it",
        )
    module, name = FAMILIES[family].split(":")
    scorer: Scorer = getattr(import_module(module), name).load(folder)
    return scorer


def family_of(scorer: Scorer) -> str:
    """The family that a scorer belongs to.

    Raises:
        ArtefactError: its class is of no family, so that it could not be opened again.
    """
    kind = f"{type(scorer).__module__}:{type(scorer).__qualname__}"
    for family, place in FAMILIES.items():
        if place == kind:
            return family
    raise ArtefactError(f"{kind} is of no known family of models", remedy="add it to recsys.families.FAMILIES")
