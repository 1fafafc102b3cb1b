"""The two stages as one model: towers score, their blend retrieves candidates, NCF ranks them.

A network learns from one copy of the towers what came in the window after, and is applied to other copies, each with
statistics of its own. Knows nothing of runs and artefacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa

from recsys.checkpoints import Checkpoints
from recsys.config import NcfConfig
from recsys.devices import Precision
from recsys.errors import ArtefactError, TrainingError
from recsys.features import Block, Standardiser, pair_features
from recsys.first_stage import AUTOENCODER, BLOCK, CONTENT, Blend, fit_blend
from recsys.histories import Bools, Floats, Histories, Ints, evenly_spaced
from recsys.models.ncf import Ncf, NcfSettings
from recsys.ncf_training import SMALL, train_ncf
from recsys.pairs import Lesson, Pairs, joined
from recsys.parallel import on_all_threads
from recsys.retrieval import users_per_block
from recsys.scoring import Scorer
from recsys.title_statistics import TitleStatistics, cold_titles, title_statistics
from recsys.tracker import Tracker
from recsys.vectors import Encoder, TextEncoder, VectorSpace, vector_space
from recsys.weights import load_weights, save_weights

LEARNERS = 20_000
"""Most users that the network learns from, evenly spaced: the features of all are held in memory."""
LEARNERS_TWICE = 10_000
"""Up to so many users, there is a second lesson of each, from a later place in time."""
VISITS, EPOCHS = 160_000, (8, 20)
"""How often a user is learned from, over all users and epochs of a network; and the fewest and the most epochs."""
LATER = 0.5
"""Share of the window after that is history already in the second lesson."""
STANDARD_USERS = 2_000
"""Users, evenly spaced, that features are standardised on."""


@dataclass(frozen=True)
class TowerCopy:
    """One copy of the towers with all that belongs to it: from histories to candidates and raw features."""

    blend: Blend
    statistics: TitleStatistics
    space: VectorSpace
    n_candidates: int

    @classmethod
    def of(
        cls,
        blend: Blend,
        histories: Histories,
        titles: pa.Table,
        *,
        n_candidates: int,
        reference: Floats | None = None,
    ) -> TowerCopy:
        """Fit what belongs to a copy on the histories that its towers were fitted on.

        Args:
            blend: of the copy's towers.
            histories: what the towers were fitted on.
            titles: metadata by title number.
            n_candidates: titles per user to be ranked.
            reference: vectors [n_items, d] of the copy that a network learned from; None: it learns from this one.
        """
        statistics = title_statistics(histories, titles)
        space = vector_space(
            _encoder(blend.towers),
            _text(blend.towers),
            histories.select(evenly_spaced(np.flatnonzero(histories.lengths), STANDARD_USERS)),
            np.sqrt(np.expm1(statistics.log_popularity)),
            statistics.cold,
            reference,
        )
        return cls(blend, statistics, space, min(n_candidates, histories.n_items))

    def describe(self, histories: Histories) -> Described:
        """Candidates and raw features of a block of users."""
        scored = self.blend.scored(histories)
        candidates = self.blend.candidates(scored, self.n_candidates)
        vectors = self.space.users(_encoder(self.blend.towers), histories)
        block = Block(
            histories, candidates, scored.scores, scored.zscores, scored.blend, scored.unseen,
            vectors if vectors.shape[1] else None,
        )  # fmt: skip
        features = pair_features(block, self.statistics, self.space.for_features)
        return Described(scored.blend, np.stack(list(features.values()), axis=2), tuple(features), candidates, vectors)

    def standardiser(self, histories: Histories) -> Standardiser:
        """The standardiser of this copy's features, from a sample of users."""

        def parts_of(block: tuple[int, Histories]) -> tuple[Floats, Ints, tuple[str, ...]]:
            described = self.describe(block[1])
            return described.features, described.items, described.names

        sample = histories.select(evenly_spaced(np.flatnonzero(histories.lengths), STANDARD_USERS))
        parts = list(on_all_threads(parts_of, sample.blocks(users_per_block(self.blend.n_items, BLOCK))))
        if not parts:
            raise TrainingError("nobody has a history, so there is nothing to rank by")
        features, items, names = zip(*parts, strict=True)
        return Standardiser.fit(np.concatenate(features), np.concatenate(items) >= 0, names[0])


@dataclass(frozen=True)
class Described:
    """A block of users as the first stage leaves them."""

    blend: Floats
    """[n_users, n_items]"""
    features: Floats
    """[n_users, k, n_features] raw."""
    names: tuple[str, ...]
    items: Ints
    """[n_users, k]; -1 where there are fewer."""
    users: Floats
    """[n_users, d]"""

    def pairs(self, standard: Standardiser) -> Pairs:
        """As the network reads them.

        Raises:
            ArtefactError: the features are not those that the standardiser knows.
        """
        if self.names != standard.names:
            raise ArtefactError(
                f"the features are {', '.join(self.names)}, the network learned {', '.join(standard.names)}",
                remedy="give it towers of the same names, over data of the same kind, as those it learned from",
            )
        there = self.items >= 0
        features = standard.apply(self.features) * there[:, :, None]
        blend = np.where(there, np.take_along_axis(self.blend, np.maximum(self.items, 0), axis=1), 0)
        return Pairs(features, blend.astype(np.float32), self.items, self.users)


@dataclass(frozen=True)
class TwoStage:
    """Towers, blend and NCF over one copy, as a Scorer."""

    copy: TowerCopy
    standard: Standardiser
    ncf: Ncf

    @classmethod
    def of(
        cls, ncf: Ncf, reference: Floats, blend: Blend, histories: Histories, titles: pa.Table, *, n_candidates: int
    ) -> TwoStage:
        """A network that learned from one copy of the towers, over another copy.

        Args:
            ncf: the network.
            reference: ``copy.space.decoder`` of the copy that it learned from.
            blend: of the other copy's towers.
            histories: what those were fitted on.
            titles: metadata by title number.
            n_candidates: titles per user to be ranked.
        """
        copy = TowerCopy.of(blend, histories, titles, n_candidates=n_candidates, reference=reference)
        return cls(copy, copy.standardiser(histories), ncf)

    def over(self, towers: Mapping[str, Scorer], histories: Histories, titles: pa.Table) -> TwoStage:
        """This network and these weights over another copy of the towers, fitted on ``histories``."""
        cold = cold_titles(histories)
        blend = Blend(towers, self.copy.blend.weights, cold)
        k = self.copy.n_candidates
        return TwoStage.of(self.ncf, self.copy.space.decoder, blend, histories, titles, n_candidates=k)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return self.copy.blend.n_items

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]: the candidates by NCF, all others below them in the order of the blend."""
        if not self.ncf.share:
            return self.copy.blend.scores(histories)
        parts = [self._ranked(block) for _, block in histories.blocks(BLOCK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_items), np.float32)

    def _ranked(self, histories: Histories) -> Floats:
        described = self.copy.describe(histories)
        logits = self.ncf.logits(described.pairs(self.standard), self.copy.space.tables)
        users, places = np.nonzero(described.items >= 0)
        lowest = np.where(described.items >= 0, logits, np.inf).min(axis=1, initial=0.0)[:, None]
        scores = lowest - 1 - (described.blend.max(axis=1, keepdims=True) - described.blend)
        scores[users, described.items[users, places]] = logits[users, places]
        return np.asarray(scores, np.float32)

    def report(self) -> dict[str, Any]:
        """How it was made and how it did on held-out users: settings, figures, curve by epoch."""
        told = dict(self.ncf.report)
        curve, losses = told.pop("curve"), told.pop("losses")
        settings = {**asdict(self.ncf.settings), "candidates": self.copy.n_candidates, "share": self.ncf.share}
        settings |= {"temperature": self.ncf.temperature, "kept_epoch": told.pop("epoch")}
        return {
            "settings": settings | {f"weight_{name}": weight for name, weight in self.copy.blend.weights.items()},
            "features": list(self.standard.names),
            "share": self.ncf.share,
            "validation": told,
            "figures": {f"validation_{name}": value for name, value in told.items()},
            "curve": [{"loss": loss, "ndcg_at_10": ndcg} for loss, ndcg in zip(losses, curve, strict=True)],
        }

    def save(self, folder: Path, towers: Mapping[str, Path] | None = None) -> None:
        """Write the whole: towers, statistics, vectors, network.

        Args:
            folder: where to.
            towers: where towers lie already, by name: their files are linked, not written again.
        """
        self.copy.blend.save(folder, towers)
        self.copy.statistics.save(folder / "statistics.safetensors")
        self.ncf.save(folder / "ncf")
        arrays = {
            **{name: getattr(self.copy.space, name) for name in _SPACE},
            "mean": self.standard.mean,
            "scale": self.standard.scale,
        }
        save_weights(folder, "TwoStage", {"names": list(self.standard.names), "n": self.copy.n_candidates}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_weights(folder, "TwoStage")
        statistics = TitleStatistics.load(folder / "statistics.safetensors")
        space = VectorSpace(**{name: arrays[name] for name in _SPACE})
        copy = TowerCopy(Blend.load(folder), statistics, space, settings["n"])
        standard = Standardiser(tuple(settings["names"]), arrays["mean"], arrays["scale"])
        return cls(copy, standard, Ncf.load(folder / "ncf"))


def train_two_stage(
    towers: Mapping[str, Scorer],
    histories: Histories,
    targets: Histories,
    titles: pa.Table,
    config: NcfConfig,
    *,
    seed: int,
    device: str = "cpu",
    precision: Precision = "float32",
    tracker: Tracker,
    checkpoints: Checkpoints | None = None,
) -> TwoStage:
    """Choose the blend's weights and train the network on what came after ``histories``.

    Args:
        towers: name → tower, fitted on ``histories``; ``user_autoencoder`` and ``content_cnn`` give the vectors.
        histories: what is known of every user.
        targets: positive interactions of the window after, which no tower has seen.
        titles: metadata by title number.
        config: hyper-parameters; what is None adapts to order and size.
        seed: of everything drawn.
        device: cpu or cuda:N.
        precision: of the network's forward passes.
        tracker: hears parameters and epochs.
        checkpoints: to go on from.

    Returns:
        The model over this copy. Use :meth:`TwoStage.over` for the copies that are measured and that serve.

    Raises:
        TrainingError: nobody has both a history and a target, or a loss is not finite.
    """
    learners = evenly_spaced(np.flatnonzero((histories.lengths > 0) & (targets.lengths > 0)), LEARNERS)
    if not len(learners):
        raise TrainingError(
            "no user has both a history and something liked in the window after",
            remedy="set a larger [split] validation_fraction, or a lower [ratings] positive_from",
        )
    cold = cold_titles(histories)
    blend = fit_blend(towers, cold, histories, targets)
    settings = resolve(config, ordered=histories.ordered, n_users=len(learners))
    k = config.candidates or (200 if histories.ordered else 100)
    tracker.params({"weights": dict(blend.weights), "candidates": k, **asdict(settings)})
    copy = TowerCopy.of(blend, histories, titles, n_candidates=k)
    standard = copy.standardiser(histories)
    known, wanted = histories.select(learners), targets.select(learners)
    lessons = [lesson_of(copy, standard, known, wanted)]
    if len(learners) <= LEARNERS_TWICE:
        lessons.append(lesson_of(copy, standard, *later(known, wanted, LATER, seed=seed)))
    ncf = train_ncf(
        lessons,
        copy.space.tables,
        settings,
        standard.names,
        seed=seed,
        device=device,
        precision=precision,
        tracker=tracker,
        checkpoints=checkpoints,
    )
    return TwoStage(copy, standard, ncf)


def resolve(config: NcfConfig, *, ordered: bool, n_users: int) -> NcfSettings:
    """The hyper-parameters for data of this kind and size: few users want a smaller network and more of them."""
    small = n_users < SMALL
    rate, decay, dropout = (2e-3, 1e-3, 0.1) if ordered else (1e-3, 0.05, 0.2)
    return NcfSettings(
        hidden_size=config.hidden_size or (32 if small else 64),
        epochs=config.epochs or int(np.clip(VISITS // max(n_users, 1), *EPOCHS)),
        batch_size=config.batch_size,
        learning_rate=rate if config.learning_rate is None else config.learning_rate,
        weight_decay=decay if config.weight_decay is None else config.weight_decay,
        dropout=(0.4 if small else dropout) if config.dropout is None else config.dropout,
        networks=max(config.seeds, 5) if small else config.seeds,
        loss=config.loss,
        without=config.without,
    )


def lesson_of(copy: TowerCopy, standard: Standardiser, histories: Histories, targets: Histories) -> Lesson:
    """Pairs of users with what they wanted."""

    def part(block: tuple[int, Histories]) -> tuple[Pairs, Bools]:
        start, users = block
        pairs = copy.describe(users).pairs(standard)
        rows = targets.select(slice(start, start + users.n_users))
        goals = np.zeros((users.n_users, targets.n_items), np.bool_)
        goals[rows.user_nums, rows.item_nums] = True
        return pairs, np.take_along_axis(goals, np.maximum(pairs.items, 0), axis=1) & pairs.there

    blocks = histories.blocks(users_per_block(copy.blend.n_items, BLOCK))
    pairs, wanted = zip(*on_all_threads(part, blocks), strict=True)
    return Lesson(joined(pairs), np.concatenate(wanted), targets.lengths)


def later(histories: Histories, targets: Histories, share: float, *, seed: int) -> tuple[Histories, Histories]:
    """The same users some time later: the first ``share`` of their targets has become history (unordered: by lot).

    The towers are inductive and know nothing of these targets, so what is left of them can be learned from once more.
    """
    place = targets.lengths[targets.user_nums] - 1 - targets.ages
    if not targets.ordered:
        draw = np.random.default_rng([seed, 91]).random(len(place))
        order = np.lexsort((draw, targets.user_nums))
        place[order] = place.copy()  # rows lie end to end, so that the places of a row are dealt out among itself
    moved = place < np.floor(share * targets.lengths)[targets.user_nums]
    return followed_by(histories, targets.where(moved)), targets.where(~moved)


def followed_by(histories: Histories, more: Histories) -> Histories:
    """Each user's history with more interactions at its end."""
    users = np.concatenate([histories.user_nums, more.user_nums])
    order = np.argsort(users, kind="stable")
    timestamps = None
    if histories.timestamps is not None and more.timestamps is not None:
        timestamps = np.concatenate([histories.timestamps, more.timestamps])[order]
    return Histories(
        histories.indptr + more.indptr,
        np.concatenate([histories.item_nums, more.item_nums])[order],
        np.concatenate([histories.ratings, more.ratings])[order],
        np.concatenate([histories.positive, more.positive])[order],
        timestamps,
        histories.n_items,
    )


def _encoder(towers: Mapping[str, Scorer]) -> Encoder | None:
    tower = towers.get(AUTOENCODER)
    # Not isinstance: it would read, and so make, the vectors of all titles, and this is asked for every block of users.
    return cast(Encoder, tower) if hasattr(tower, "encode") else None


def _text(towers: Mapping[str, Scorer]) -> TextEncoder | None:
    tower = towers.get(CONTENT)
    return tower if isinstance(tower, TextEncoder) else None


_SPACE = tuple(field.name for field in fields(VectorSpace))
