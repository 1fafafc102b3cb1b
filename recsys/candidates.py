"""What the evaluation's process runs: tonight's candidates, or the champion, on the test window.

In a process of its own, so that what the models hold is given back before the next step. Takes paths, and goes on
where a killed process stopped. Knows nothing of what is decided with the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys.bundle import load_bundle
from recsys.cooccurrence import counts
from recsys.data.split import TEST, Split
from recsys.evaluation import Evaluation, evaluate
from recsys.families import load_scorer
from recsys.histories import Bools, Histories
from recsys.scoring import Scorer
from recsys.tracker import Tracker

Fitted = tuple[str, str, Path]
"""(name, family, folder) of a model that was fitted on train and validation."""


class Window:
    """The test window, as every model meets it."""

    def __init__(self, split_folder: Path, users: int) -> None:
        self.split = Split.load(split_folder)
        self.known: Histories = self.split.known(TEST)
        self.targets: Histories = self.split.asked(TEST, users)
        self.cold: Bools = counts(self.split.fit) == 0

    def measure(self, scorer: Scorer) -> Evaluation:
        """A model fitted on train and validation, on the test window."""
        return evaluate(scorer, self.known, self.targets, cold=self.cold)


def measure_candidates(
    split_folder: Path, fitted: Sequence[Fitted], folder: Path, *, users: int, tracker: Tracker
) -> dict[str, dict[str, float]]:
    """Measure models one by one: full ranking, seen titles left out, nothing sampled.

    Args:
        split_folder: holds the split.
        fitted: the models.
        folder: where every model's :class:`recsys.evaluation.Evaluation` is written, under its name; what lies there
            is not measured again.
        users: most users measured, evenly spaced.
        tracker: hears each model's NDCG@10 as an epoch.

    Returns:
        Metrics by model.
    """
    window: Window | None = None
    metrics: dict[str, dict[str, float]] = {}
    for name, family, place in fitted:
        done = folder / name
        if not done.is_dir():
            window = window or Window(split_folder, users)
            unfinished = done.with_suffix(".tmp")
            window.measure(load_scorer(family, place)).save(unfinished)
            unfinished.rename(done)
        metrics[name] = dict(Evaluation.load(done).metrics)
        tracker.epoch(len(metrics), len(fitted), {f"{name}_ndcg_at_10": metrics[name]["ndcg_at_10"]})
    return metrics


def measure_bundle(split_folder: Path, bundle: Path, folder: Path, *, users: int, tracker: Tracker) -> dict[str, float]:
    """Measure a registered model's measured copy over the split's titles.

    Args:
        split_folder: holds the split.
        bundle: the model's.
        folder: where its evaluation is written.
        users: as in :func:`measure_candidates`.
        tracker: hears its NDCG@10.

    Returns:
        Its metrics.
    """
    window = Window(split_folder, users)
    held = load_bundle(bundle, load_scorer=load_scorer, verified=False)
    evaluation = window.measure(held.over(window.split.items))
    evaluation.save(folder)
    tracker.epoch(1, 1, {"champion_ndcg_at_10": evaluation.metrics["ndcg_at_10"]})
    return dict(evaluation.metrics)
