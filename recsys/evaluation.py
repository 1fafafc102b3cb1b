"""Evaluation of a scorer: all titles ranked for every user, seen ones left out, nothing sampled.

Users stream through in blocks: the memory is block × titles, whatever the number of users. Knows nothing of which
window is which, nor of what is decided with the figures (see :mod:`recsys.selection`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns
from recsys.artefacts import write_table
from recsys.cooccurrence import counts
from recsys.data.ids import IdMap
from recsys.errors import ArtefactError, TrainingError
from recsys.histories import Bools, Floats, Histories, Ints, Longs
from recsys.metrics import cold_recall, largest_share_of_one_list, list_metrics, relevance, user_metrics
from recsys.parallel import on_all_threads
from recsys.scoring import Scorer
from recsys.topk import NO_ITEM, mask_seen, top_k

KS = (10, 20, 100)
BLOCK_SCORES = 1 << 22
"""Scores of a block of users, by default: 16 MB, of which a few copies are made."""
RAW = 10
"""Length of the lists, before seen titles are left out, by which a collapsed model is known."""


@dataclass(frozen=True)
class Evaluation:
    """How well lists foretold the targets of the users who have any."""

    users: Ints
    """[m] the users measured (rows of the histories); those without targets are left out, not counted as 0."""
    per_user: Mapping[str, Floats]
    """[m] each, such as ``ndcg_at_10``."""
    metrics: Mapping[str, float]
    """Means of ``per_user`` by the same names, and figures of all lists together (coverage, novelty, Gini, …)."""
    top: Ints
    """[m, max(ks)] the lists: item numbers, best first, NO_ITEM where a list is shorter."""
    groups: NDArray[np.int8]
    """[m] each user's activity group: a place in ``group_names``."""
    group_names: tuple[str, ...]
    """Ranges of history length, such as "21-67"."""
    same_list: float
    """Share of users whose best titles, seen ones included, are one and the same list: 1.0 is a collapsed model."""
    n_items: int
    """Titles in the catalogue."""
    finite: bool
    """Whether every score was finite. Scores that are not rank last."""

    def group_means(self, metric: str) -> dict[str, float]:
        """The mean of a per-user metric in every activity group."""
        values = self.per_user[metric]
        return {name: float(values[self.groups == place].mean()) for place, name in enumerate(self.group_names)}

    def save(self, folder: Path) -> None:
        """Write as ``evaluation.json`` (figures to read) and ``evaluation.npz`` (arrays, no pickle)."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"per_user/{name}": values for name, values in self.per_user.items()}
        np.savez(folder / "evaluation.npz", users=self.users, top=self.top, groups=self.groups, **arrays)  # type: ignore[arg-type]
        figures = {
            "metrics": dict(self.metrics),
            "group_names": list(self.group_names),
            "same_list": self.same_list,
            "n_items": self.n_items,
            "finite": self.finite,
            "users": len(self.users),
        }
        (folder / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Evaluation:
        """Read what :meth:`save` wrote.

        Raises:
            ArtefactError: a file is missing or damaged.
        """
        try:
            figures = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
            with np.load(folder / "evaluation.npz", allow_pickle=False) as arrays:
                held = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError) as error:
            raise ArtefactError(
                f"the evaluation cannot be read ({error})", where=str(folder), remedy="run the evaluation again"
            ) from None
        return cls(
            users=held["users"],
            per_user={n.removeprefix("per_user/"): v for n, v in held.items() if n.startswith("per_user/")},
            metrics=figures["metrics"],
            top=held["top"],
            groups=held["groups"],
            group_names=tuple(figures["group_names"]),
            same_list=figures["same_list"],
            n_items=figures["n_items"],
            finite=figures["finite"],
        )

    def export_ranks(self, path: Path, users: IdMap, items: IdMap) -> None:
        """Write the lists that were measured as Parquet (user_id, rank from 1, item_id), for others to check us by."""
        row, place = np.nonzero(self.top != NO_ITEM)
        table = pa.table(
            {
                columns.USER_ID: users.external(self.users[row]),
                columns.RANK: pa.array((place + 1).astype(np.int16)),
                columns.ITEM_ID: items.external(self.top[row, place]),
            }
        )
        write_table(path, table)


def evaluate(
    scorer: Scorer,
    histories: Histories,
    targets: Histories,
    *,
    ks: tuple[int, ...] = KS,
    block_size: int | None = None,
    candidates: Bools | None = None,
    cold: Bools | None = None,
) -> Evaluation:
    """Rank all titles for every user who has targets, and measure.

    Args:
        scorer: scores users by their histories.
        histories: what is known of the users. All that is in them counts as seen and is not listed.
        targets: same users, what should be listed. A target that was seen can't be listed, and counts as missed.
        ks: cut-offs.
        block_size: users scored at a time; None: as many as 16 MB of scores hold, at most 512.
        candidates: [n_items] titles that may be listed; None: all.
        cold: [n_items] titles that count as cold; None: those without interactions in ``histories``.

    Raises:
        TrainingError: no user has a target, or scorer, histories and targets are not over the same titles and users.
    """
    _check(scorer, histories, targets)
    users = np.flatnonzero(targets.lengths > 0).astype(np.int32)
    known, wanted = histories.select(users), targets.select(users)
    popularity = counts(histories)
    cold = popularity == 0 if cold is None else cold
    size = block_size or max(1, min(512, BLOCK_SCORES // histories.n_items))
    top, raw, finite = _lists(scorer, known, max(ks), size, candidates)
    per_user = user_metrics(relevance(top, wanted.user_nums, wanted.item_nums), wanted.lengths, ks)
    metrics = {name: float(values.mean(dtype=np.float64)) for name, values in per_user.items()}
    for k in ks:
        metrics |= list_metrics(top, popularity, histories.n_users, cold, k)
        found = cold_recall(top, wanted.user_nums, wanted.item_nums, cold, k)
        metrics |= {} if found is None else {f"cold_recall_at_{k}": found}
    groups, names = activity_groups(known.lengths)
    same_list = largest_share_of_one_list(raw)
    return Evaluation(users, per_user, metrics, top, groups, names, same_list, histories.n_items, finite)


def _check(scorer: Scorer, histories: Histories, targets: Histories) -> None:
    titles = {"the model": scorer.n_items, "the histories": histories.n_items, "the targets": targets.n_items}
    if len(set(titles.values())) > 1 or histories.n_users != targets.n_users:
        counted = ", ".join(f"{what} {n} titles" for what, n in titles.items())
        raise TrainingError(
            f"model, histories and targets do not belong together ({counted}; {histories.n_users} users with "
            f"histories, {targets.n_users} with targets)",
            remedy="evaluate a model on the split that it was fitted on",
        )
    if not len(targets.item_nums):
        raise TrainingError(
            "no user has a positive interaction in the window to be foretold, so nothing can be measured",
            remedy="set a larger [split] test_fraction, or a lower [ratings] positive_from",
        )


def _lists(
    scorer: Scorer, histories: Histories, k: int, block_size: int, candidates: Bools | None
) -> tuple[Ints, Ints, bool]:
    """Top-k of unseen candidates [n_users, k], top-RAW of all titles [n_users, RAW], and whether scores are finite."""

    def lists_of(block: Histories) -> tuple[Ints, Ints, bool]:
        scores = np.array(scorer.scores(block), dtype=np.float32)  # a copy: it is masked below
        finite = np.isfinite(scores)
        all_finite = bool(finite.all())
        if not all_finite:
            scores[~finite] = -np.inf
        raw = top_k(scores, RAW)[0]
        if candidates is not None:
            scores[:, ~candidates] = -np.inf
        mask_seen(scores, block)
        return top_k(scores, k)[0], raw, all_finite

    blocks = (block for _, block in histories.blocks(block_size))
    tops, raws, finites = zip(*on_all_threads(lists_of, blocks), strict=True)
    return np.concatenate(tops), np.concatenate(raws), all(finites)


def activity_groups(lengths: Longs, n_groups: int = 4) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Users in up to ``n_groups`` groups of about the same size by history length: [m] places, and their ranges."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, n_groups + 1)[1:-1], method="lower"))
    raw = np.searchsorted(edges, lengths, side="left")
    present, groups = np.unique(raw, return_inverse=True)
    names = []
    for place in range(len(present)):
        mine = lengths[groups == place]
        names.append(f"{mine.min()}-{mine.max()}" if mine.min() < mine.max() else f"{mine.min()}")
    return groups.astype(np.int8), tuple(names)
