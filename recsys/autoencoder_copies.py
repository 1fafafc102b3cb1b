"""The copies of the user autoencoder that a night needs, each warm-started from the one before.

``train`` is fitted on the train window, with early stopping on validation; ``fit`` on train and validation; the
serving copy on everything. One space of vectors for all: what a second stage learned on the first copy holds for the
others. These functions are what the trainer's process runs: they take paths, and go on where a killed one stopped.
PyTorch is imported when they run, so that the parent, which only names them, stays light.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.artefacts import write_text
from recsys.config import AutoencoderConfig
from recsys.data.split import VALIDATION, Split
from recsys.devices import Precision
from recsys.histories import Histories
from recsys.tracker import ContinuedTracker, Tracker

if TYPE_CHECKING:
    from recsys.models.autoencoder_training import AutoencoderSettings, AutoencoderTraining

CHECKPOINT_SECONDS = 5.0
TRAIN, FIT, SERVING = "train", "fit", "serving"
_REPORT = "training.json"


def fit_copies(
    split_folder: Path,
    folder: Path,
    config: AutoencoderConfig,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> dict[str, Any]:
    """Make the copies ``train`` and ``fit`` in ``folder``, and ``autoencoder.json``: settings, epochs, curves.

    Args:
        split_folder: holds a :class:`recsys.data.split.Split`.
        folder: where copies and checkpoints go; what a killed process left there is used.
        config: the configuration.
        identity: of data, configuration and code: another one's checkpoints are not used.
        device: cpu or cuda:N.
        precision: of forward passes.
        seed: of training.
        tracker: hears the epochs of both copies as one training.

    Returns:
        the content of ``autoencoder.json``.

    Raises:
        TrainingError: see :func:`recsys.models.autoencoder_training.train_user_autoencoder`.
    """
    from recsys.models.autoencoder_training import refit_settings

    split = Split.load(split_folder)
    settings = _resolve(config, split.train)
    options: dict[str, Any] = {"device": device, "precision": precision, "seed": seed, "identity": identity}
    first = _copy(
        folder / TRAIN,
        split.train,
        settings,
        tracker,
        validation=(split.known(VALIDATION), split.targets(VALIDATION)),
        **options,
    )
    second = _copy(
        folder / FIT,
        split.fit,
        refit_settings(settings, first["best_epoch"]),
        ContinuedTracker(tracker, len(first["curve"])),
        warm_start=folder / TRAIN,
        **options,
    )
    report = {"settings": asdict(settings), TRAIN: first, FIT: second}
    write_text(folder / "autoencoder.json", json.dumps(report, indent=1) + "\n")
    return report


def refit_copy(
    split_folder: Path,
    copies: Path,
    folder: Path,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> dict[str, Any]:
    """Make the serving copy in ``folder/serving``: on all interactions, warm-started from the copy ``fit``.

    Args:
        split_folder: holds the split.
        copies: folder with the copy ``fit`` and ``autoencoder.json``, from :func:`fit_copies`.
        folder: where the copy and its checkpoints go.
        identity: as in :func:`fit_copies`.
        device: cpu or cuda:N.
        precision: of forward passes.
        seed: of training.
        tracker: hears the epochs.
    """
    from recsys.models.autoencoder_training import AutoencoderSettings, refit_settings

    report = json.loads((copies / "autoencoder.json").read_text())
    settings = refit_settings(AutoencoderSettings(**report["settings"]), report[TRAIN]["best_epoch"])
    return _copy(
        folder / SERVING,
        Split.load(split_folder).interactions,
        settings,
        tracker,
        warm_start=copies / FIT,
        identity=identity,
        device=device,
        precision=precision,
        seed=seed,
    )


def _resolve(config: AutoencoderConfig, histories: Histories) -> AutoencoderSettings:
    from recsys.models.autoencoder_training import resolve

    return resolve(
        config,
        n_users=int((histories.positives().lengths > 1).sum()),
        n_items=histories.n_items,
        n_interactions=int(histories.positive.sum()),
        ordered=histories.ordered,
    )


def _copy(
    folder: Path,
    histories: Histories,
    settings: AutoencoderSettings,
    tracker: Tracker,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    validation: tuple[Histories, Histories] | None = None,
    warm_start: Path | None = None,
) -> dict[str, Any]:
    """Train and save one copy, unless a process before this one did."""
    from recsys.checkpoints import Checkpoints
    from recsys.models.autoencoder_training import train_user_autoencoder
    from recsys.models.user_autoencoder import UserAutoencoder

    done = folder / _REPORT
    if done.exists():
        finished: dict[str, Any] = json.loads(done.read_text())
        if finished["identity"] == identity:
            return finished
    checkpoints = Checkpoints(folder / "checkpoint", identity, every_seconds=CHECKPOINT_SECONDS)
    training = train_user_autoencoder(
        histories,
        settings=settings,
        validation=validation,
        device=device,
        precision=precision,
        seed=seed,
        tracker=tracker,
        warm_start=None if warm_start is None else UserAutoencoder.load(warm_start),
        checkpoints=checkpoints,
    )
    training.model.save(folder)
    report = _report(training, identity)
    write_text(done, json.dumps(report, indent=1) + "\n")
    checkpoints.remove()
    return report


def _report(training: AutoencoderTraining, identity: str) -> dict[str, Any]:
    return {
        "identity": identity,
        "epochs": len(training.curve),
        "best_epoch": training.best_epoch,
        "learning_rate": training.settings.learning_rate,
        "curve": training.curve,
    }
