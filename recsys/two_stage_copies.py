"""What the second stage's process runs: the copy that is measured, the one that serves, and the report.

The network learns what the towers fitted on one window do not know of the next: for the copy that is measured, from
train to validation; for the one that serves, from train and validation to test. Takes paths, and goes on where a killed
process stopped. PyTorch is imported when it runs: the parent stays light.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.artefacts import write_text
from recsys.autoencoder_copies import COMPANION, COMPANION_TOWER, TOWER
from recsys.config import NcfConfig
from recsys.data.split import TEST, VALIDATION, Split
from recsys.devices import Precision
from recsys.families import load_scorer
from recsys.rivals import chosen_params, fit_family
from recsys.scoring import Scorer
from recsys.tracker import Tracker

if TYPE_CHECKING:
    from recsys.two_stage import TwoStage

MEASURED, SERVING, REPORT = "measured", "serving", "ncf.json"
CLOSED_FORM = ("ease", "ease_recency", "order_ridge", "ials", "ials_recency")
"""Baselines that are towers too, where they were fitted."""
LEAN = ("ease", "order_ridge", "ials")
"""Those of them where titles are so many that every tower costs as much as all else: see :data:`LEAN_TITLES`."""
LEAN_TITLES = 20_000
CHECKPOINT_SECONDS = 5.0


@dataclass(frozen=True)
class Parts:
    """Where the towers of a night lie."""

    autoencoder: Path
    """Holds the copies ``train`` and ``fit``, and the companion's in ``companion/``, where there is one."""
    content: Path
    """Holds the copy ``final``: it knows the train window only, so it is the same for every copy."""
    baselines: Path
    """Holds ``<name>/train`` and ``<name>/fit``."""
    n_items: int
    """Titles that they score."""

    def folders(self, copy: str) -> dict[str, Path]:
        """Where each tower lies, fitted on train (``train``) or on train and validation (``fit``)."""
        encoders = {TOWER: self.autoencoder / copy, COMPANION_TOWER: self.autoencoder / COMPANION / copy}
        return {
            **{name: folder for name, folder in encoders.items() if folder.is_dir()},
            "content_cnn": self.content / "final",
            **{name: self.baselines / name / copy for name in self.closed_form},
        }

    def towers(self, copy: str) -> dict[str, Scorer]:
        """The towers of a copy."""
        return {name: load_scorer(name, folder) for name, folder in self.folders(copy).items()}

    @property
    def closed_form(self) -> list[str]:
        """The baselines that are towers."""
        names = LEAN if self.n_items > LEAN_TITLES else CLOSED_FORM
        return [name for name in names if (self.baselines / name).is_dir()]


def fit_ncf(
    split_folder: Path,
    parts: Parts,
    folder: Path,
    config: NcfConfig,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> dict[str, Any]:
    """Make the copy ``measured`` in ``folder``, and ``ncf.json``: settings, blend, figures, curve.

    Args:
        split_folder: holds a :class:`recsys.data.split.Split`; its test window is not read.
        parts: the towers.
        folder: where to; a killed process's checkpoints there are used.
        config: hyper-parameters.
        identity: of data, configuration and code: another one's checkpoints are not used.
        device: cpu or cuda:N.
        precision: of the network's forward passes.
        seed: of everything drawn.
        tracker: hears parameters and epochs.

    Returns:
        the content of ``ncf.json``: see :meth:`recsys.two_stage.TwoStage.report`.

    Raises:
        TrainingError: see :func:`recsys.two_stage.train_two_stage`.
    """
    split = Split.load(split_folder)
    learned = _learn(
        split, parts.towers("train"), VALIDATION, folder, config,
        identity=identity, device=device, precision=precision, seed=seed, tracker=tracker,
    )  # fmt: skip
    learned.over(parts.towers("fit"), split.fit, split.titles).save(folder / MEASURED, parts.folders("fit"))
    report = learned.report()
    write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def refit_ncf(
    split_folder: Path,
    parts: Parts,
    autoencoders: Path,
    folder: Path,
    config: NcfConfig,
    *,
    max_items: int,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> None:
    """Make the copy ``serving`` in ``folder``: it learned from the test window too, over towers fitted on everything.

    Args:
        split_folder: holds the split; every interaction of it is read.
        parts: the towers of :func:`fit_ncf`.
        autoencoders: holds the autoencoders' serving copies, each under its name as a tower.
        folder: where to.
        config: hyper-parameters.
        max_items: most titles of the dense closed-form towers.
        identity: as in :func:`fit_ncf`.
        device: cpu or cuda:N.
        precision: of the network's forward passes.
        seed: of everything drawn.
        tracker: hears the epochs.
    """
    split = Split.load(split_folder)
    learned = _learn(
        split, parts.towers("fit"), TEST, folder, config,
        identity=identity, device=device, precision=precision, seed=seed, tracker=tracker,
    )  # fmt: skip
    everything = split.interactions
    towers = {
        name: fit_family(name, chosen_params(parts.baselines, name), everything, max_items=max_items, seed=seed)
        for name in parts.closed_form
    }
    saved = {name: autoencoders / name for name in (TOWER, COMPANION_TOWER) if (autoencoders / name).is_dir()}
    saved |= {"content_cnn": parts.content / "final"}
    towers |= {name: load_scorer(name, place) for name, place in saved.items()}
    ordered = {name: towers[name] for name in learned.copy.blend.towers}
    learned.over(ordered, everything, split.titles).save(folder / SERVING, saved)


def _learn(
    split: Split,
    towers: Mapping[str, Scorer],
    window: int,
    folder: Path,
    config: NcfConfig,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> TwoStage:
    from recsys.checkpoints import Checkpoints
    from recsys.two_stage import train_two_stage

    return train_two_stage(
        towers,
        split.known(window),
        split.targets(window),
        split.titles,
        config,
        seed=seed,
        device=device,
        precision=precision,
        tracker=tracker,
        checkpoints=Checkpoints(folder / "checkpoint", identity, every_seconds=CHECKPOINT_SECONDS),
    )
