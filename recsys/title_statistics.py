"""What the titles of a catalogue are like, as one set of histories and the metadata show: the part of the pair features
that belongs to titles alone.

Fitted anew for every copy of the towers, on that copy's own histories. Knows nothing of towers or networks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse

from recsys import columns
from recsys.histories import Bools, Floats, Histories, Ints, Longs

TRANSITION_REACH = 10
"""Most interactions between a title and one that follows it."""
TRANSITION_DECAY = 0.8
"""Weight of a follower per interaction of distance."""
TRANSITION_BUDGET = 20_000_000
"""Most transitions counted: beyond, every k-th user stands for all."""
LIFT_SHRINKAGE = 5.0
"""Pseudo-transitions, spread as chance would, that a log-lift is shrunk by."""
RATING_SHRINKAGE = 10.0
"""Pseudo-ratings at the overall mean that a title's mean rating is shrunk by."""
RECENT_SHARE = 0.2
"""The newest share of all interactions, by the calendar, that the trend compares with the whole."""
TREND_SHRINKAGE = 5.0
"""Pseudo-interactions at no trend."""
MIN_WORD_TITLES = 2
"""A genre or name on fewer titles tells nothing about a pair."""


@dataclass(frozen=True)
class TitleStatistics:
    """Statistics of every title, [n_items] unless said otherwise; all finite, cold titles included."""

    ordered: bool
    """Whether the histories had an order: without it trend, place, debut and followers say nothing (zeros)."""
    explicit: bool
    """Whether there were rating values: without them mean_rating is zero."""
    cold: Bools
    """Nobody liked it: the towers that learn from interactions know nothing of it."""
    log_popularity: Floats
    """log(1 + positive interactions)."""
    trend: Floats
    """log(share of the newest interactions / share of all), shrunk: above 0 is rising."""
    place: Floats
    """Mean relative place in histories, 0 the first to 1 the last; .5 where unknown."""
    debut: Longs
    """Microseconds since the epoch of the first interaction; of a cold title: of the newest interaction of all."""
    mean_rating: Floats
    """Mean rating, shrunk to the overall mean (which cold titles have)."""
    year: Floats
    """Year of release; the median year where unknown."""
    genres: Floats
    """[n_items, n_genres] unit rows, zero where unknown."""
    words: sparse.csr_matrix
    """[n_items, n_words] unit TF-IDF rows of genres and names of people. Tags are left out: given later, they leak."""
    followers: sparse.csr_matrix
    """[n_items, n_items] how often the column's title comes soon after the row's, nearer ones weighing more."""

    @property
    def n_items(self) -> int:
        """Number of titles."""
        return len(self.cold)

    @cached_property
    def forerunners(self) -> sparse.csr_matrix:
        """The transpose of ``followers``."""
        return self.followers.T.tocsr()

    def lift(self, items: NDArray[np.integer], candidates: Ints, *, backward: bool = False) -> Floats:
        """log-lift of candidates as followers (``backward``: as forerunners) of one title each.

        log((count + s·chance) / ((total + s)·chance)), with s pseudo-counts: 0 where nothing is known.

        Args:
            items: [n_users] title numbers; -1 gives zeros.
            candidates: [n_users, k].

        Returns:
            [n_users, k].
        """
        counts = self.forerunners if backward else self.followers
        chance, totals = self._shares[1 if backward else 0], self._shares[2 if backward else 3]
        found = _entries(counts, np.maximum(items, 0), candidates)
        expected = chance[candidates]
        total = totals[np.maximum(items, 0), None]
        lift = np.log(
            (found + LIFT_SHRINKAGE * expected) / ((total + LIFT_SHRINKAGE) * np.maximum(expected, 1e-12)) + 1e-12
        )
        return np.where((items >= 0)[:, None] & (expected > 0), lift, 0).astype(np.float32)

    def common_words(self, weights: sparse.csr_matrix, candidates: Ints) -> Floats:
        """How alike the words of candidates [n_users, k] are to those of users' titles, [n_users, k].

        Args:
            weights: [n_users, n_items] of the users' titles.
            candidates: [n_users, k].
        """
        tastes = np.asarray((weights @ self.words).todense(), np.float32)  # [n_users, n_words]
        titles = self.words[candidates.ravel()]
        pairs = np.repeat(np.arange(candidates.size), np.diff(titles.indptr))
        products = titles.data * tastes[pairs // candidates.shape[1], titles.indices]
        return (
            np.bincount(pairs, weights=products, minlength=candidates.size).reshape(candidates.shape).astype(np.float32)
        )

    @cached_property
    def _shares(self) -> tuple[Floats, Floats, Floats, Floats]:
        came, went = (np.asarray(self.followers.sum(axis=axis), np.float32).ravel() for axis in (0, 1))
        total = max(float(came.sum()), 1.0)
        return came / total, went / total, came, went

    def save(self, path: Path) -> None:
        """Write as one safetensors file."""
        tensors: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if sparse.issparse(value):
                tensors |= {f"{field.name}.{part}": getattr(value, part) for part in ("data", "indices", "indptr")}
                tensors[f"{field.name}.shape"] = np.array(value.shape, np.int64)
            else:
                tensors[field.name] = np.atleast_1d(np.asarray(value))
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> TitleStatistics:
        """Read what :meth:`save` wrote."""
        tensors = load_file(path)

        def read(name: str) -> Any:
            if name in ("ordered", "explicit"):
                return bool(tensors[name][0])
            if name in tensors:
                return tensors[name]
            parts = tuple(tensors[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
            return sparse.csr_matrix(parts, shape=tuple(tensors[f"{name}.shape"]))

        return cls(**{field.name: read(field.name) for field in fields(cls)})


def _entries(matrix: sparse.csr_matrix, rows: NDArray[np.integer], columns_: Ints) -> Floats:
    """Of a matrix with sorted indices, one row for each of ``rows`` [n] at its ``columns_`` [n, k]: [n, k]."""
    found = np.zeros(columns_.shape, np.float32)
    for place, (start, end) in enumerate(zip(matrix.indptr[rows], matrix.indptr[rows + 1], strict=True)):
        if start < end:
            indices = matrix.indices[start:end]
            at = np.minimum(np.searchsorted(indices, columns_[place]), end - start - 1)
            found[place] = np.where(indices[at] == columns_[place], matrix.data[start:end][at], 0)
    return found


def title_statistics(histories: Histories, titles: pa.Table) -> TitleStatistics:
    """Fit the statistics.

    Args:
        histories: what the towers of this copy were fitted on; nothing later.
        titles: metadata by title number, in the schema ``columns.TITLES``.
    """
    positive = np.bincount(histories.item_nums[histories.positive], minlength=histories.n_items)
    return TitleStatistics(
        ordered=histories.ordered,
        explicit=bool(np.isfinite(histories.ratings).any()),
        cold=cold_titles(histories),
        log_popularity=np.log1p(positive).astype(np.float32),
        trend=_trend(histories),
        place=_place(histories),
        debut=_debut(histories),
        mean_rating=_mean_rating(histories),
        year=_years(titles),
        genres=_unit_rows(_word_counts(titles, (columns.GENRES,), 1).toarray()),
        words=_tf_idf(_word_counts(titles, (columns.GENRES, columns.DIRECTORS, columns.CAST), MIN_WORD_TITLES)),
        followers=_followers(histories),
    )


def cold_titles(histories: Histories) -> Bools:
    """[n_items] titles that nobody liked."""
    return np.asarray(np.bincount(histories.item_nums[histories.positive], minlength=histories.n_items) == 0)


def _trend(histories: Histories) -> Floats:
    if histories.timestamps is None or not len(histories.item_nums):
        return np.zeros(histories.n_items, np.float32)
    newest = histories.timestamps >= np.quantile(histories.timestamps, 1 - RECENT_SHARE)
    everything = np.bincount(histories.item_nums, minlength=histories.n_items)
    recent = np.bincount(histories.item_nums[newest], minlength=histories.n_items)
    share = float(newest.mean())
    trend: Floats = np.log((recent / share + TREND_SHRINKAGE) / (everything + TREND_SHRINKAGE)).astype(np.float32)
    return trend


def _place(histories: Histories) -> Floats:
    if not histories.ordered:
        return np.full(histories.n_items, 0.5, np.float32)
    last = np.repeat(np.maximum(histories.lengths - 1, 1), histories.lengths)
    place = 1 - histories.ages / last
    count = np.bincount(histories.item_nums, minlength=histories.n_items)
    total = np.bincount(histories.item_nums, weights=place, minlength=histories.n_items)
    return ((total + 0.5) / (count + 1)).astype(np.float32)


def _debut(histories: Histories) -> Longs:
    if histories.timestamps is None or not len(histories.item_nums):
        return np.zeros(histories.n_items, np.int64)
    debut = np.full(histories.n_items, histories.timestamps.max(), np.int64)
    np.minimum.at(debut, histories.item_nums, histories.timestamps)
    return debut


def _mean_rating(histories: Histories) -> Floats:
    rated = np.isfinite(histories.ratings)
    if not rated.any():
        return np.zeros(histories.n_items, np.float32)
    items, values = histories.item_nums[rated], histories.ratings[rated].astype(np.float64)
    overall = values.mean()
    count = np.bincount(items, minlength=histories.n_items)
    total = np.bincount(items, weights=values, minlength=histories.n_items)
    return np.asarray((total + RATING_SHRINKAGE * overall) / (count + RATING_SHRINKAGE), np.float32)


def _years(titles: pa.Table) -> Floats:
    years = titles[columns.YEAR].to_numpy(zero_copy_only=False).astype(np.float32)
    known = np.isfinite(years)
    return np.asarray(np.where(known, years, np.median(years[known]) if known.any() else 0), np.float32)


def _word_counts(titles: pa.Table, names: tuple[str, ...], least: int) -> sparse.csr_matrix:
    """[n_items, n_words] presence of "column:word", of words that at least ``least`` titles have."""
    rows = [
        sorted({f"{name}:{word}" for name, cell in zip(names, cells, strict=True) for word in cell or ()})
        for cells in zip(*(titles[name].to_pylist() for name in names), strict=True)
    ]
    spread = Counter(chain.from_iterable(rows))
    numbers = {word: number for number, word in enumerate(sorted(w for w, n in spread.items() if n >= least))}
    found = [[numbers[word] for word in row if word in numbers] for row in rows]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in found], dtype=np.int64)])
    indices = np.fromiter(chain.from_iterable(found), np.int64, int(indptr[-1]))
    return sparse.csr_matrix(
        (np.ones(len(indices), np.float32), indices, indptr), shape=(titles.num_rows, max(len(numbers), 1))
    )


def _tf_idf(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    spread = np.asarray(counts.sum(axis=0)).ravel()
    weighted = counts @ sparse.diags(np.log((1 + counts.shape[0]) / (1 + spread)) + 1)
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.maximum(norms, 1e-12)) @ weighted).tocsr().astype(np.float32)


def _unit_rows(values: NDArray[Any]) -> Floats:
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.maximum(norms, 1e-12), np.float32)


def _followers(histories: Histories) -> sparse.csr_matrix:
    """Transitions at distances 1…reach, weighing decay^(distance-1)."""
    shape = (histories.n_items, histories.n_items)
    if not histories.ordered:
        return sparse.csr_matrix(shape, dtype=np.float32)
    step = max(1, -(-len(histories.item_nums) * TRANSITION_REACH // TRANSITION_BUDGET))
    sample = histories.select(np.arange(0, histories.n_users, step)) if step > 1 else histories
    counts = sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, TRANSITION_REACH + 1):
        earlier = np.flatnonzero(sample.ages >= distance)
        weights = np.full(len(earlier), TRANSITION_DECAY ** (distance - 1), np.float32)
        pairs = (sample.item_nums[earlier], sample.item_nums[earlier + distance])
        counts = counts + sparse.csr_matrix((weights, pairs), shape=shape)
    counts.sort_indices()
    return counts
