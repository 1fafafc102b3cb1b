"""The copies of the user autoencoders that a night needs, each warm-started from the one before.

Where there is order, two are trained: one that is taught what comes next, and one that finds what was held out and
reads no order at all. What finds more of the validation window is the user autoencoder; the other is its companion, a
tower beside it: how much order says differs more from service to service than anything else that could be searched.

``train`` is fitted on the train window, with early stopping on validation; ``fit`` on train and validation; the
serving copy on everything. One space of vectors for all: what a second stage learned on the first copy holds for the
others. These functions are what the trainer's process runs: they take paths, and go on where a killed one stopped.
PyTorch is imported when they run, so that the parent, which only names them, stays light.
"""

from __future__ import annotations

import json
import shutil
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
    from recsys.distributed import Group
    from recsys.models.autoencoder_training import AutoencoderSettings, AutoencoderTraining

CHECKPOINT_SECONDS = 5.0
COMPANION_INTERACTIONS = 2_000_000
"""Most positive interactions for which there is a companion unless one is asked for."""
TRAIN, FIT, SERVING, COMPANION = "train", "fit", "serving", "companion"
TOWER, COMPANION_TOWER = "user_autoencoder", "companion_autoencoder"
NOT_MODEL = shutil.ignore_patterns("training.json", "checkpoint")
"""What lies beside a copy's model while it is made."""
_REPORT = "training.json"
_ORDERED, _UNORDERED = "ordered", "unordered"


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
    group: Group | None = None,
) -> dict[str, Any]:
    """Make the copies ``train`` and ``fit`` in ``folder``, and ``autoencoder.json``: settings, epochs, curves.

    The companion's, where there is one, lie in ``folder/companion``, and its settings and curves under ``companion``.

    Args:
        split_folder: holds a :class:`recsys.data.split.Split`.
        folder: where copies and checkpoints go; what a killed process left there is used.
        config: the configuration.
        identity: of data, configuration and code: another one's checkpoints are not used.
        device: cpu or cuda:N.
        precision: of forward passes.
        seed: of training.
        tracker: hears the epochs of both copies as one training.
        group: of the processes that make the copies together; its leader writes them. None: this one alone.

    Returns:
        the content of ``autoencoder.json``.

    Raises:
        TrainingError: see :func:`recsys.models.autoencoder_training.train_user_autoencoder`.
    """
    from recsys.distributed import ALONE

    group = group or ALONE
    split = Split.load(split_folder)
    options: dict[str, Any] = {
        "device": device, "precision": precision, "seed": seed, "identity": identity, "group": group
    }  # fmt: skip
    reports: dict[str, dict[str, Any]] = {}
    done = 0
    for name in _variants(split, config):
        heard = ContinuedTracker(tracker, done) if done else tracker
        reports[name] = _two_copies(split, name, folder / name, config, heard, options)
        done += sum(len(reports[name][copy]["curve"]) for copy in (TRAIN, FIT))
    chosen = max(reports, key=lambda name: _best(reports[name]))
    for name in reports if group.leads else ():
        for copy in (TRAIN, FIT):
            place = folder / copy if name == chosen else folder / COMPANION / copy
            shutil.copytree(folder / name / copy, place, ignore=NOT_MODEL, dirs_exist_ok=True)
    companion = next((report for name, report in reports.items() if name != chosen), None)
    report = {**reports[chosen], COMPANION: companion}
    if group.leads:
        write_text(folder / "autoencoder.json", json.dumps(report, indent=1) + "\n")
    return report


def _variants(split: Split, config: AutoencoderConfig) -> tuple[str, ...]:
    if not split.interactions.ordered:
        return (_UNORDERED,)
    few = int(split.interactions.positive.sum()) <= COMPANION_INTERACTIONS
    return (_ORDERED, _UNORDERED) if (few if config.companion is None else config.companion) else (_ORDERED,)


def _two_copies(
    split: Split, variant: str, folder: Path, config: AutoencoderConfig, tracker: Tracker, options: dict[str, Any]
) -> dict[str, Any]:
    from recsys.models.autoencoder_training import refit_settings

    train, fit, known = (_seen_by(variant, part) for part in (split.train, split.fit, split.known(VALIDATION)))
    settings = _resolve(config, train)
    first = _copy(folder / TRAIN, train, settings, tracker, validation=(known, split.targets(VALIDATION)), **options)
    second = _copy(
        folder / FIT,
        fit,
        refit_settings(settings, first["best_epoch"]),
        ContinuedTracker(tracker, len(first["curve"])),
        warm_start=folder / TRAIN,
        **options,
    )
    return {"variant": variant, "settings": asdict(settings), TRAIN: first, FIT: second}


def _seen_by(variant: str, histories: Histories) -> Histories:
    return histories.unordered() if variant == _UNORDERED and histories.ordered else histories


def _best(report: dict[str, Any]) -> float:
    """NDCG@10 on validation of the epoch that was kept; 0 without validation."""
    first = report[TRAIN]
    return float(first["curve"][first["best_epoch"] - 1].get("ndcg_at_10", 0.0))


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
    group: Group | None = None,
) -> None:
    """Make the serving copies: on all interactions, warm-started from the copies ``fit``.

    They are in ``folder/serving/user_autoencoder`` and, if there is a companion, ``…/companion_autoencoder``.

    Args:
        split_folder: holds the split.
        copies: folder with the copy ``fit`` and ``autoencoder.json``, from :func:`fit_copies`.
        folder: where the copy and its checkpoints go.
        identity: as in :func:`fit_copies`.
        device: cpu or cuda:N.
        precision: of forward passes.
        seed: of training.
        tracker: hears the epochs.
        group: as in :func:`fit_copies`.
    """
    from recsys.distributed import ALONE
    from recsys.models.autoencoder_training import AutoencoderSettings, refit_settings

    interactions = Split.load(split_folder).interactions
    report = json.loads((copies / "autoencoder.json").read_text())
    jobs = [(report, copies / FIT, folder / SERVING / TOWER)]
    if report[COMPANION]:
        jobs.append((report[COMPANION], copies / COMPANION / FIT, folder / SERVING / COMPANION_TOWER))
    done = 0
    for made, start, place in jobs:
        settings = refit_settings(AutoencoderSettings(**made["settings"]), made[TRAIN]["best_epoch"])
        copy = _copy(
            place,
            _seen_by(made["variant"], interactions),
            settings,
            ContinuedTracker(tracker, done),
            warm_start=start,
            identity=identity,
            device=device,
            precision=precision,
            seed=seed,
            group=group or ALONE,
        )
        done += len(copy["curve"])


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
    group: Group,
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
        group=group,
    )
    report = _report(training, identity)
    if group.leads:
        training.model.save(folder)
        write_text(done, json.dumps(report, indent=1) + "\n")
        checkpoints.remove()
    group.wait()
    return report


def _report(training: AutoencoderTraining, identity: str) -> dict[str, Any]:
    return {
        "identity": identity,
        "epochs": len(training.curve),
        "best_epoch": training.best_epoch,
        "learning_rate": training.settings.learning_rate,
        "curve": training.curve,
    }
