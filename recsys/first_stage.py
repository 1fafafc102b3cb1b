"""The first stage: towers score all titles, a weighted blend of their per-user z-scores retrieves candidates.

The weights are chosen on a window that the towers have not seen. :class:`Blend` is the first stage as a model of its
own: what the second stage has to beat. Knows nothing of the second stage.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from recsys.artefacts import write_text
from recsys.errors import ArtefactError
from recsys.families import family_of, load_scorer
from recsys.histories import Bools, Floats, Histories, Ints, Longs
from recsys.pairs import ndcg_at_10
from recsys.parallel import on_all_threads
from recsys.retrieval import users_per_block
from recsys.scoring import Scorer
from recsys.topk import top_k

AUTOENCODER, CONTENT = "user_autoencoder", "content_cnn"
"""Towers with a part of their own: the one gives the vectors, the other scores titles that nobody rated."""
COLD_WEIGHT = 0.5
"""A title nobody rated is blended at this share of its content z-score: no other tower knows it."""
COLD_QUOTA = 20
"""One candidate in so many is a title that nobody rated, where there are any and the content tower can tell."""
MOST = 50.0
"""Z-scores are cut to ±this: where all scores but one are equal, that one's has no bound."""
BLOCK = 256
"""Users scored at a time."""
CACHED = 250_000
"""Scores (1 MB) that several passes are made over at a time: they stay in the processor's cache."""
SEARCH_USERS = 4_000
"""Users (evenly spaced) that the weights are searched on."""
SEARCH_DEPTH = 100
"""Titles per tower that a search looks at."""
STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
"""Weights tried, relative to the sum of the other towers'."""
MIN_GAIN = 2e-4
"""NDCG@10 that a weight must bring to be moved."""


@dataclass(frozen=True)
class Scored:
    """What the towers say of a block of users. All [n_users, n_items]."""

    scores: Mapping[str, Floats]
    zscores: Mapping[str, Floats]
    blend: Floats
    unseen: Bools


@dataclass(frozen=True)
class Blend:
    """Towers and their weights, as a Scorer."""

    towers: Mapping[str, Scorer]
    weights: Mapping[str, float]
    """Tower → weight. Towers left out, or at 0, retrieve nothing but are still features of the second stage."""
    cold: Bools
    """[n_items] titles that nobody liked."""

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.cold)

    def scores(self, histories: Histories) -> Floats:
        """The blend, [n_users, n_items]."""
        parts = [self.scored(block).blend for _, block in histories.blocks(BLOCK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_items), np.float32)

    def scored(self, histories: Histories) -> Scored:
        """Scores, z-scores and blend of a block of users (keep it small: everything is dense)."""
        unseen = np.ones((histories.n_users, self.n_items), np.bool_)
        unseen[histories.user_nums, histories.item_nums] = False
        scores = {name: tower.scores(histories) for name, tower in self.towers.items()}
        warm = histories.where(~self.cold[histories.item_nums])
        zscores = {name: _zscores(values, ~self.cold, warm) for name, values in scores.items()}
        return Scored(scores, zscores, self._blend(zscores), unseen)

    def _blend(self, zscores: Mapping[str, Floats]) -> Floats:
        blend = np.zeros_like(next(iter(zscores.values())))
        for row in range(len(blend)):  # one by one: it stays in the processor's cache
            for name, weight in self.weights.items():
                if weight:
                    blend[row] += np.float32(weight) * zscores[name][row]
        if CONTENT in zscores:
            blend[:, self.cold] = COLD_WEIGHT * zscores[CONTENT][:, self.cold]
        return blend

    def candidates(self, scored: Scored, k: int) -> Ints:
        """The k best unseen titles of every user, [n_users, k], -1 where there are fewer; the quota of cold ones in."""
        listable = scored.blend.copy()
        listable[~scored.unseen] = -np.inf
        if CONTENT in scored.zscores and self.cold.any():
            # All of them are blended at the same share of their content z-score: the order is the same.
            cold = np.flatnonzero(self.cold)
            chosen, values = top_k(listable[:, cold], min(max(1, k // COLD_QUOTA), len(cold)))
            users, places = np.nonzero(np.isfinite(values))
            listable[users, cold[chosen[users, places]]] = np.finfo(np.float32).max
        return top_k(listable, k)[0]

    def save(self, folder: Path, towers: Mapping[str, Path] | None = None) -> None:
        """Write the blend and, in folders of their own, its towers (linked where ``towers`` says they lie already)."""
        save_towers(folder, self.towers, towers or {})
        about = {"kind": "Blend", "weights": dict(self.weights), "cold": np.flatnonzero(self.cold).tolist()}
        write_text(folder / "blend.json", json.dumps({**about, "n_items": self.n_items}, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        try:
            about = json.loads((folder / "blend.json").read_text())
        except (OSError, ValueError) as error:
            raise ArtefactError(f"the blend cannot be read ({error})", where=str(folder)) from None
        cold = np.zeros(about["n_items"], np.bool_)
        cold[about["cold"]] = True
        return cls(load_towers(folder), about["weights"], cold)


def _zscores(scores: Floats, warm: Bools, seen: Histories) -> Floats:
    """Per-user z-scores over the ``warm`` titles [n_items] that are not ``seen`` (histories of warm titles)."""
    zscores, counted = np.empty(scores.shape, np.float32), warm.astype(np.float32)
    for start, own in seen.blocks(max(1, CACHED // len(warm))):
        rows = slice(start, start + own.n_users)
        _standardise(scores[rows], zscores[rows], counted, own)
    return zscores


def _standardise(scores: Floats, zscores: Floats, counted: Floats, seen: Histories) -> None:
    """A few passes in place over rows that stay in the processor's cache, and sums as products with a vector."""
    users, items = seen.user_nums, seen.item_nums
    count = np.maximum(counted.sum() - seen.lengths, 1)

    def mean(values: Floats) -> Floats:
        seen_too = np.bincount(users, weights=values[users, items], minlength=len(values))
        return np.asarray((values @ counted - seen_too) / count, np.float32)

    np.subtract(scores, mean(scores)[:, None], out=zscores)
    shift = mean(zscores)  # what rounding has left: squares are taken of what is centred
    variance = mean(np.square(zscores)) - np.square(shift)
    zscores -= shift[:, None]
    zscores *= 1 / np.sqrt(np.maximum(variance, np.float32(1e-12)))[:, None]
    np.clip(zscores, -MOST, MOST, out=zscores)


def save_towers(folder: Path, towers: Mapping[str, Scorer], saved: Mapping[str, Path]) -> None:
    """Write towers into ``towers/<name>/``, and which family each is of into ``towers.json``.

    Args:
        folder: where to.
        towers: by name.
        saved: folders where some of them lie already: the matrices of linear towers are large, so files are hard
            links where the file system can, else copies.
    """
    for name, tower in towers.items():
        place = folder / "towers" / name
        if name in saved:
            shutil.copytree(saved[name], place, copy_function=_link, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            tower.save(place)
    families = {name: family_of(tower) for name, tower in towers.items()}
    write_text(folder / "towers.json", json.dumps(families, indent=1) + "\n")


def _link(source: str, target: str) -> None:
    try:
        Path(target).unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def load_towers(folder: Path) -> dict[str, Scorer]:
    """Read what :func:`save_towers` wrote."""
    try:
        families: dict[str, str] = json.loads((folder / "towers.json").read_text())
    except (OSError, ValueError) as error:
        raise ArtefactError(f"the towers cannot be read ({error})", where=str(folder)) from None
    return {name: load_scorer(family, folder / "towers" / name) for name, family in families.items()}


def default_weights(towers: Mapping[str, Scorer], *, ordered: bool) -> dict[str, float]:
    """Where the search begins: .8 autoencoder with .2 ridge in time order, .7 with .3 EASE without; else evenly."""
    companion = "order_ridge" if ordered and "order_ridge" in towers else "ease"
    weights = dict.fromkeys(towers, 0.0)
    if AUTOENCODER in towers and companion in towers:
        return weights | ({AUTOENCODER: 0.8, companion: 0.2} if ordered else {AUTOENCODER: 0.7, companion: 0.3})
    leaders = [name for name in towers if name != CONTENT] or list(towers)
    return weights | dict.fromkeys(leaders, 1 / len(leaders))


def fit_blend(towers: Mapping[str, Scorer], cold: Bools, histories: Histories, targets: Histories) -> Blend:
    """Choose the weights by coordinate search on NDCG@10.

    Args:
        towers: fitted on ``histories``.
        cold: [n_items] titles that nobody liked in them.
        histories: what came before.
        targets: what should be recommended; the towers have not seen it.
    """
    weights = default_weights(towers, ordered=histories.ordered)
    measured = np.flatnonzero(targets.lengths > 0)
    measured = measured[:: -(-len(measured) // SEARCH_USERS) or 1]
    if len(measured) and len(towers) > 1:
        trial = _Trial.of(Blend(towers, weights, cold), histories.select(measured), targets.select(measured))
        weights = trial.search(weights)
    return Blend(towers, weights, cold)


@dataclass(frozen=True)
class _Trial:
    """The titles that any tower thinks well of, for all users: small enough to try many weights."""

    zscores: Mapping[str, Floats]
    """Tower → [n_users, m], -inf where a user has fewer."""
    wanted: Bools
    """[n_users, m]"""
    n_targets: Longs

    @classmethod
    def of(cls, blend: Blend, histories: Histories, targets: Histories) -> _Trial:
        width = SEARCH_DEPTH * len(blend.towers)

        def part(block: tuple[int, Histories]) -> tuple[dict[str, Floats], Bools]:
            start, users = block
            scored = blend.scored(users)
            goals = np.zeros(scored.blend.shape, np.bool_)
            rows = targets.select(slice(start, start + users.n_users))
            goals[rows.user_nums, rows.item_nums] = True
            shortlist = _shortlist(scored, ~blend.cold, width)
            there, places = shortlist >= 0, np.maximum(shortlist, 0)
            kept = {
                name: np.where(there, np.take_along_axis(values, places, axis=1), -1e3).astype(np.float32)
                for name, values in scored.zscores.items()
            }
            return kept, np.take_along_axis(goals, places, axis=1) & there

        blocks = histories.blocks(users_per_block(blend.n_items, BLOCK))
        found, wanted = zip(*on_all_threads(part, blocks), strict=True)
        zscores = {name: np.concatenate([kept[name] for kept in found]) for name in blend.towers}
        return cls(zscores, np.concatenate(wanted), targets.lengths)

    def search(self, weights: dict[str, float]) -> dict[str, float]:
        """Two rounds over the towers, each trying the steps, keeping what helps."""
        best = self.ndcg(weights)
        for name in [*weights, *weights]:
            others = sum(weight for other, weight in weights.items() if other != name)
            for step in STEPS if others > 0 else ():
                trial = {**weights, name: step * others}
                trial = {other: weight / sum(trial.values()) for other, weight in trial.items()}
                figure = self.ndcg(trial)
                if figure > best + MIN_GAIN:
                    best, weights = figure, trial
        return {name: round(weight, 4) for name, weight in weights.items()}

    def ndcg(self, weights: Mapping[str, float]) -> float:
        """Mean NDCG@10 of the blend with these weights, over the shortlist."""
        blend = np.zeros(self.wanted.shape, np.float32)
        for name, weight in weights.items():
            if weight:
                blend += np.float32(weight) * self.zscores[name]
        return float(ndcg_at_10(blend, self.wanted, self.n_targets).mean())


def _shortlist(scored: Scored, warm: Bools, width: int) -> Ints:
    """The union of the towers' best titles, [n_users, width], -1 where there are fewer."""
    good = np.zeros(scored.blend.shape, np.float32)
    for values in scored.zscores.values():
        best, found = top_k(np.where(scored.unseen & warm, values, -np.inf).astype(np.float32), SEARCH_DEPTH)
        users, places = np.nonzero(np.isfinite(found))
        good[users, best[users, places]] = 1
    return top_k(np.where(good > 0, good, -np.inf).astype(np.float32), min(width, len(warm)))[0]
