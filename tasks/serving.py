"""The serving copy of a model: refitted on everything, in a process of its own where it is a network."""

from __future__ import annotations


from recsys.data.split import Split
from recsys.families import load_scorer
from recsys.rivals import fit_family
from recsys.scoring import Scorer
from recsys.tracker import Tracker
from tasks.autoencoder import refit_autoencoder
from tasks.run import Run
from tasks.trained import AUTOENCODER, Trained


def serving_copy(run: Run, trained: Trained, split: Split, family: str, tracker: Tracker) -> Scorer:
    """A model of this family fitted on every interaction of the split."""
    if family == AUTOENCODER:
        assert trained.autoencoder is not None
        folder = run.home / "checkpoints" / "serving" / trained.autoencoder.digest
        refit_autoencoder(run, trained.split, trained.autoencoder, folder, tracker)
        return load_scorer(family, folder)
    params = trained.tuned()[family]["params"]
    return fit_family(
        family, params, split.interactions, max_items=run.config.baselines.max_items, seed=run.config.seed
    )
