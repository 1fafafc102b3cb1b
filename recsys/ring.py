"""The ring: models measured on the same users, held against each other, so that a statistician accepts the outcome.

Evaluations in; intervals over users, paired differences against the best rival, and figures by group out. Pure: knows
nothing of how models were made, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys.bootstrap import Interval, paired_bootstrap
from recsys.data.split import TEST, Split
from recsys.errors import TrainingError
from recsys.evaluation import Evaluation
from recsys.histories import Histories
from recsys.ring_groups import RingGroups

OURS = ("user_autoencoder", "content_cnn", "blend", "ncf")
"""The models that have to win. Every other one is a rival."""
METRICS: Mapping[str, str] = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_20": "recall@20",
    "ndcg_at_100": "NDCG@100",
    "capped_recall_at_20": "recall / min(20, held-out)",
}
"""The main metrics, in words. The last is Recall@20 as Liang et al. (WWW 2018) have it."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Record):
    """A model less the best rival, paired on users."""

    rival: str
    mean: float
    low: float
    high: float
    ratio: float | None
    """Of the two means; None where the rival has 0."""

    @property
    def above(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


class GroupFigure(_Record):
    """Figures of one group of users or of targets. None where a figure cannot be had."""

    users: int | None
    targets: int | None = None
    ndcg_at_10: float | None = None
    recall_at_20: float | None = None


class ModelFigures(_Record):
    """One model in the ring."""

    ours: bool
    intervals: dict[str, Interval]
    """By main metric: the mean over users and its interval."""
    against_best_rival: dict[str, Difference | None]
    """By main metric. None for the best rival itself, and where there is no rival."""
    groups: dict[str, dict[str, GroupFigure]]
    """``activity`` (users by length of history), ``popularity`` (targets: head, middle, tail) and ``newness``
    (targets: new, older, cold)."""


class Ring(_Record):
    """All models, held against each other."""

    users: int
    confidence: float
    resamples: int
    metrics: dict[str, str]
    """Main metric → its name in words."""
    best_rival: dict[str, str | None]
    """By main metric: the rival with the highest test figure, the hardest to beat. None where there is no rival."""
    models: dict[str, ModelFigures]
    """In the order given."""


def compare(
    evaluations: Mapping[str, Evaluation],
    targets: Histories,
    fitted_on: Histories,
    *,
    ours: tuple[str, ...] = OURS,
    metrics: Mapping[str, str] = METRICS,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Ring:
    """Hold models against each other.

    Args:
        evaluations: by name, of the same users on the same targets.
        targets: what was to be foretold, of all users.
        fitted_on: what the models were fitted on; titles are grouped by it.
        ours: names that are no rivals.
        metrics: per-user metrics and their names in words.
        confidence: of the intervals.
        resamples: bootstrap resamples of the users.
        seed: of the resamples: the same for every model and metric.

    Raises:
        TrainingError: two evaluations are not of the same users, or there is none.
    """
    users = _same_users(evaluations)
    groups = RingGroups.of(fitted_on)
    best = {metric: _best_rival(evaluations, metric, ours) for metric in metrics}
    zeros = np.zeros(len(users), np.float32)

    def between(name: str, other: str | None, metric: str) -> Interval:
        theirs = zeros if other is None else evaluations[other].per_user[metric]
        mine = evaluations[name].per_user[metric]
        return paired_bootstrap(mine, theirs, resamples=resamples, confidence=confidence, seed=seed)

    def difference(name: str, metric: str) -> Difference | None:
        rival = best[metric]
        if rival is None or rival == name:
            return None
        theirs = evaluations[rival].metrics[metric]
        ratio = evaluations[name].metrics[metric] / theirs if theirs > 0 else None
        return Difference(rival=rival, ratio=ratio, **between(name, rival, metric).model_dump())

    return Ring(
        users=len(users),
        confidence=confidence,
        resamples=resamples,
        metrics=dict(metrics),
        best_rival=best,
        models={
            name: ModelFigures(
                ours=name in ours,
                intervals={metric: between(name, None, metric) for metric in metrics},
                against_best_rival={metric: difference(name, metric) for metric in metrics},
                groups=group_figures(evaluation, targets, groups),
            )
            for name, evaluation in evaluations.items()
        },
    )


def compare_on(
    split: Split,
    evaluations: Mapping[str, Evaluation],
    *,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ring:
    """:func:`compare` on the test window of a split."""
    return compare(
        evaluations, split.targets(TEST), split.fit, resamples=resamples, confidence=confidence, seed=seed
    )  # fmt: skip


def group_figures(evaluation: Evaluation, targets: Histories, groups: RingGroups) -> dict[str, dict[str, GroupFigure]]:
    """Figures by activity of users, and recall@20 by popularity and newness of the targets.

    Args:
        evaluation: of one model.
        targets: what was to be foretold, of all users.
        groups: of the titles.
    """
    n_targets = targets.lengths[evaluation.users]
    activity = {
        name: GroupFigure(
            users=int(mine.sum()),
            targets=int(n_targets[mine].sum()),
            ndcg_at_10=float(evaluation.per_user["ndcg_at_10"][mine].mean(dtype=np.float64)),
            recall_at_20=float(evaluation.per_user["recall_at_20"][mine].mean(dtype=np.float64)),
        )
        for name, mine in ((name, evaluation.groups == place) for place, name in enumerate(evaluation.group_names))
    }
    by_title = {
        grouping: {
            name: GroupFigure(users=found.users, targets=found.targets, recall_at_20=found.recall)
            for name, found in recalls.items()
        }
        for grouping, recalls in groups.recalls(evaluation, targets, k=20).items()
    }
    return {"activity": activity, **by_title}


def _same_users(evaluations: Mapping[str, Evaluation]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    if not evaluations:
        raise TrainingError("no model was measured, so there is nothing to compare", remedy="name at least one model")
    (name, first), *others = evaluations.items()
    for other, evaluation in others:
        if not np.array_equal(evaluation.users, first.users):
            raise TrainingError(
                f"{name} and {other} were not measured on the same users ({len(first.users)} and "
                f"{len(evaluation.users)})",
                remedy="measure all models on one split",
            )
    return first.users


def _best_rival(evaluations: Mapping[str, Evaluation], metric: str, ours: tuple[str, ...]) -> str | None:
    rivals = [name for name in evaluations if name not in ours]
    return max(rivals, key=lambda name: evaluations[name].metrics[metric], default=None)
