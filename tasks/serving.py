"""The serving copy of a model: refitted on everything, in a process of its own where it is a network."""

from __future__ import annotations

import shutil

from recsys.data.split import Split
from recsys.families import load_scorer
from recsys.rivals import fit_family
from recsys.scoring import Scorer
from recsys.tracker import Tracker
from tasks.autoencoder import refit_autoencoder
from tasks.ncf import serve_ncf
from tasks.run import Run
from tasks.trained import AUTOENCODER, BLEND, NCF, Trained


def serving_copy(run: Run, trained: Trained, split: Split, family: str, tracker: Tracker) -> Scorer:
    """A model of this family fitted on every interaction of the split.

    Networks are written under ``<home>/checkpoints/serving``; what a killed run finished there is used. The caller
    removes it (:func:`forget_serving`) once the model is an artefact.
    """
    if family not in {NCF, BLEND, AUTOENCODER}:
        params = trained.tuned()[family]["params"]
        most = run.config.baselines.max_items
        return fit_family(family, params, split.interactions, max_items=most, seed=run.config.seed)
    assert trained.autoencoder is not None
    folder = run.home / "checkpoints" / "serving" / trained.autoencoder.digest
    encoders = folder / "autoencoders"
    if not encoders.is_dir():
        unfinished = encoders.with_suffix(".tmp")
        refit_autoencoder(run, trained.split, trained.autoencoder, unfinished, tracker)
        unfinished.rename(encoders)
    if family == AUTOENCODER:
        return load_scorer(family, encoders / AUTOENCODER)
    assert trained.content is not None
    assert trained.baselines is not None
    towers = (trained.autoencoder, trained.content, trained.baselines)
    serve_ncf(run, trained.split, towers, encoders, folder / NCF, tracker)
    return load_scorer(family, folder / NCF)


def forget_serving(run: Run) -> None:
    """Remove the unfinished work of :func:`serving_copy`."""
    shutil.rmtree(run.home / "checkpoints" / "serving", ignore_errors=True)
