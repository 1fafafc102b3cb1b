"""What is known about a user and a title together: the pair features that the second stage ranks by.

Computed for a block of users and their candidates at a time, from the towers' scores, the vectors and the titles'
statistics. Every feature is finite for every pair: empty histories, cold titles, no order, no content, no ratings.
Knows nothing of the network that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.histories import Bools, Floats, Histories, Ints
from recsys.title_statistics import TitleStatistics

CLIP = 6.0
"""Standardised features are cut to ±this."""
LAST_TITLES = 3
"""Newest titles whose followers and forerunners are looked up one by one."""
CLOSE_TITLES = (1, 5, 10)
"""Newest titles that a candidate's vector is compared with: the last, the best of, the mean of."""
TASTE_TAU = 10.0
"""Interactions over which recent taste (genres, years, words, content) fades by 1/e."""
COUNTED_SHARE = 16
"""One candidate in so many, those a tower likes least, has its rank there counted by itself: cold ones, as a rule."""
DAY = 86_400e6
"""Microseconds."""


@dataclass(frozen=True)
class TitleVectors:
    """The vectors of every title, from one copy of the towers."""

    decoder: Floats | None
    """[n_items, d] decoder rows; of titles nobody rated the aligned content vector. None: no autoencoder."""
    content: Floats | None
    """[n_items, c] content vectors. None: no content."""
    aligned: Floats | None
    """[n_items, d] content vectors carried over to the space of decoder rows. None where either is missing."""

    @cached_property
    def unit_decoder(self) -> Floats:
        """The decoder's rows at length 1; there must be a decoder."""
        assert self.decoder is not None
        return _unit(self.decoder)

    @cached_property
    def unit_content(self) -> Floats:
        """The content vectors at length 1; there must be content."""
        assert self.content is not None
        return _unit(self.content)


@dataclass(frozen=True)
class Block:
    """A block of users, their candidates, and what the first stage says of them."""

    histories: Histories
    candidates: Ints
    """[n_users, k] title numbers, best of the blend first; -1 where a user has fewer."""
    scores: Mapping[str, Floats]
    """Tower → raw scores [n_users, n_items]."""
    zscores: Mapping[str, Floats]
    """Tower → per-user z-scores over the titles not seen."""
    blend: Floats
    """[n_users, n_items]"""
    unseen: Bools
    """[n_users, n_items]"""
    user_vectors: Floats | None
    """[n_users, d]"""


def pair_features(block: Block, statistics: TitleStatistics, vectors: TitleVectors) -> dict[str, Floats]:
    """Name → values [n_users, k], raw: not yet standardised. The same copies give the same names in the same order."""
    rows = np.maximum(block.candidates, 0)
    liked = block.histories.positives()
    features: dict[str, Floats] = {"blend": np.take_along_axis(block.blend, rows, axis=1)}
    features |= dict(_tower_features(block, rows))
    features |= dict(_title_features(block.histories, rows, statistics))
    features |= dict(_user_features(liked, rows, statistics))
    features |= dict(_taste_features(liked, rows, statistics, vectors))
    if vectors.decoder is not None and block.user_vectors is not None:
        features |= dict(_vector_features(block.user_vectors, rows, liked, vectors.unit_decoder, statistics.ordered))
    if vectors.aligned is not None and block.user_vectors is not None:
        features["content_logit"] = _dots(block.user_vectors, vectors.aligned[rows])
    if statistics.ordered:
        features |= dict(_transition_features(block.histories, rows, statistics))
    if statistics.explicit:
        features |= dict(_rating_features(block.histories, rows, statistics, vectors))
    return {name: np.where(block.candidates >= 0, values, 0).astype(np.float32) for name, values in features.items()}


def _tower_features(block: Block, rows: Ints) -> Iterator[tuple[str, Floats]]:
    for name, scores in block.scores.items():
        found = np.take_along_axis(scores, rows, axis=1)
        rank, top, log_mass = _standing(scores, block.histories, found)
        yield f"{name}_zscore", np.take_along_axis(block.zscores[name], rows, axis=1)
        yield f"{name}_rank", -np.log1p(rank)
        yield f"{name}_log_softmax", found - top[:, None] - log_mass[:, None]


def _standing(scores: Floats, histories: Histories, found: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """How many unseen titles a tower likes better than candidates, [n_users, k], its best unseen score, [n_users], and
    log Σ exp(score - best) over the unseen, [n_users]. Row by row: one stays in the processor's cache."""
    rank, top, mass = np.empty(found.shape, np.intp), *np.zeros((2, len(scores)), np.float32)
    for user, row in enumerate(scores):
        unseen = row.copy()
        unseen[histories.item_nums[histories.row(user)]] = -np.inf
        rank[user] = _better(unseen, found[user])
        best = unseen.max()
        if np.isfinite(best):
            unseen -= best
            top[user], mass[user] = best, np.exp(unseen, out=unseen).sum()
    return rank, top, np.log(np.maximum(mass, np.float32(1e-12)))


def _better(row: Floats, own: Floats) -> NDArray[np.intp]:
    """How many of a row's scores are above each of ``own`` [k].

    Most of ``own`` are near the top: only what is above those is sorted, for the few others the row is counted.
    """
    order = np.argsort(own)
    counted = len(own) // COUNTED_SHARE
    low, high = own[order[:counted]], own[order[counted:]]
    above = np.sort(row[row > high[0]])
    better = np.empty(len(own), np.intp)
    better[order[:counted]] = [np.count_nonzero(row > score) for score in low]
    better[order[counted:]] = len(above) - np.searchsorted(above, high, side="right")
    return better


def _title_features(histories: Histories, rows: Ints, statistics: TitleStatistics) -> Iterator[tuple[str, Floats]]:
    yield "log_popularity", statistics.log_popularity[rows]
    yield "cold", statistics.cold[rows].astype(np.float32)
    if statistics.ordered:
        yield "trend", statistics.trend[rows]
        yield "place", statistics.place[rows]
        yield "known_for", np.log1p(np.maximum(_now(histories, statistics)[:, None] - statistics.debut[rows], 0) / DAY)


def _now(histories: Histories, statistics: TitleStatistics) -> NDArray[np.float64]:
    """When a user was last active, microseconds, [n_users]; where that is not known, when the newest title began."""
    newest = np.full(histories.n_users, statistics.debut.max(initial=0), np.float64)
    if histories.timestamps is not None:
        active = histories.lengths > 0
        newest[active] = histories.timestamps[histories.indptr[1:][active] - 1]
    return newest


def _user_features(liked: Histories, rows: Ints, statistics: TitleStatistics) -> Iterator[tuple[str, Floats]]:
    recent = _weighted_mean(liked, TASTE_TAU) @ statistics.log_popularity
    yield "length", np.broadcast_to(np.log1p(liked.lengths)[:, None], rows.shape)
    yield "recent_popularity", np.broadcast_to(recent[:, None], rows.shape)
    yield "popularity_step", np.where(liked.lengths[:, None] > 0, statistics.log_popularity[rows] - recent[:, None], 0)


def _taste_features(
    liked: Histories, rows: Ints, statistics: TitleStatistics, vectors: TitleVectors
) -> Iterator[tuple[str, Floats]]:
    weights = _weighted_mean(liked, TASTE_TAU)
    known = (liked.lengths > 0)[:, None]
    yield "genres", _dots(weights @ statistics.genres, statistics.genres[rows])
    years = np.where(known, statistics.year[rows] - (weights @ statistics.year)[:, None], 0)
    yield "newer", np.clip(years / 10, -4, 4)
    yield "year_distance", -np.log1p(np.abs(years))
    yield "words", statistics.common_words(weights, rows)
    if vectors.content is not None:
        unit = vectors.unit_content
        yield "content", _dots(_unit(weights @ unit), unit[rows])


def _vector_features(
    user_vectors: Floats, rows: Ints, liked: Histories, unit: Floats, ordered: bool
) -> Iterator[tuple[str, Floats]]:
    candidates = unit[rows]  # [n_users, k, d]
    yield "cosine_user", _dots(_unit(user_vectors), candidates)
    if not ordered:
        yield "cosine_liked", _dots(_unit(_weighted_mean(liked, TASTE_TAU) @ unit), candidates)
        return
    last, close, near = CLOSE_TITLES
    newest = _newest(liked, near)
    own = np.where(newest[:, :, None] >= 0, unit[np.maximum(newest, 0)], 0)  # [n_users, near, d], the newest first
    cosines = candidates @ own.transpose(0, 2, 1)  # [n_users, k, near]
    yield "cosine_last", cosines[:, :, :last].mean(axis=2)
    yield "cosine_best", cosines[:, :, :close].max(axis=2)
    yield "cosine_mean", cosines.sum(axis=2) / np.maximum((newest >= 0).sum(axis=1), 1)[:, None]


def _transition_features(histories: Histories, rows: Ints, statistics: TitleStatistics) -> Iterator[tuple[str, Floats]]:
    newest = _newest(histories, LAST_TITLES)
    for place in range(LAST_TITLES):
        yield f"follows_{place + 1}", statistics.lift(newest[:, place], rows)
        yield f"precedes_{place + 1}", statistics.lift(newest[:, place], rows, backward=True)


def _rating_features(
    histories: Histories, rows: Ints, statistics: TitleStatistics, vectors: TitleVectors
) -> Iterator[tuple[str, Floats]]:
    rated = histories.where(np.isfinite(histories.ratings))
    total = np.bincount(rated.user_nums, weights=rated.ratings, minlength=rated.n_users)
    count = np.bincount(rated.user_nums, minlength=rated.n_users)
    usual = float(statistics.mean_rating.mean())
    yield "mean_rating", statistics.mean_rating[rows]
    yield "user_rating", np.broadcast_to(((total + usual) / (count + 1))[:, None], rows.shape)
    disliked = histories.where(~histories.positive)
    weights = _weighted_mean(disliked, 2 * TASTE_TAU)
    yield "disliked_genres", _dots(weights @ statistics.genres, statistics.genres[rows])
    if vectors.decoder is not None:
        unit = vectors.unit_decoder
        yield "disliked_cosine", _dots(_unit(weights @ unit), unit[rows])


def _newest(histories: Histories, n: int) -> Ints:
    """The newest ``n`` titles of each row, newest first, [n_users, n]; -1 where a row is shorter."""
    newest = np.full((histories.n_users, n), -1, np.int32)
    recent = histories.last(n)
    newest[recent.user_nums, recent.ages] = recent.item_nums
    return newest


def _weighted_mean(histories: Histories, tau: float) -> sparse.csr_matrix:
    """[n_users, n_items] rows that sum to 1, the newest title weighing most; empty rows stay empty."""
    weights = histories.recency(tau)
    total = np.bincount(histories.user_nums, weights=weights, minlength=histories.n_users)
    return histories.matrix((weights / total[histories.user_nums]).astype(np.float32))


def _dots(users: Floats, titles: Floats) -> Floats:
    """[n_users, k] inner products of [n_users, d] with [n_users, k, d]."""
    return np.asarray((titles @ users[:, :, None])[:, :, 0], np.float32)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


@dataclass(frozen=True)
class Standardiser:
    """Brings each feature of one copy to mean 0 and variance 1 over that copy's own pairs."""

    names: tuple[str, ...]
    mean: Floats
    """[n_features]"""
    scale: Floats
    """[n_features]"""

    @classmethod
    def fit(cls, raw: Floats, there: Bools, names: tuple[str, ...]) -> Standardiser:
        """From raw features [n_users, k, n_features], over the pairs that are ``there`` [n_users, k]."""
        pairs = raw[there].astype(np.float64) if there.any() else np.zeros((1, len(names)))
        deviation = pairs.std(axis=0)
        scale = np.where(deviation > 1e-6 * (1 + np.abs(pairs.mean(axis=0))), deviation, np.inf)  # constant: stays 0
        return cls(names, pairs.mean(axis=0).astype(np.float32), scale.astype(np.float32))

    def apply(self, raw: Floats) -> Floats:
        """Standardise and clip, [n_users, k, n_features]."""
        return np.asarray(np.clip((raw - self.mean) / self.scale, -CLIP, CLIP), np.float32)
