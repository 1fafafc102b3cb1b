"""Linear item-to-item models in closed form: EASE, and the order-aware ridge.

Both are one dense matrix between the most popular titles. Each has a ``Statistics`` step, which reads the histories,
and a solve per setting, so that a grid of settings reads them once. Knows nothing of tuning: see :mod:`recsys.rivals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack

from recsys.cooccurrence import covered_titles, gram, known_users, popularity_share
from recsys.errors import TrainingError
from recsys.histories import Bools, Floats, Histories, Ints, Longs
from recsys.scoring import over_all_titles
from recsys.weights import load_weights, save_weights

Doubles = NDArray[np.float64]

_ROWS = 1024
_BLOCK = 1 << 20
"""Interactions whose pairs are gathered at a time."""


@dataclass(frozen=True)
class EaseStatistics:
    """What EASE reads of the histories."""

    gram: Floats
    """[n_covered, n_covered]"""
    scale: float
    """Mean squared entry of the rows: regularisation is in units of it, so that one grid serves every scaling."""
    item_nums: Ints
    popularity: Floats

    @classmethod
    def of(cls, histories: Histories, *, row_power: float = 0.0, max_items: int = 8_000) -> Self:
        """Count co-occurrences of liked titles, each user's row scaled by n^-row_power."""
        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        values = np.maximum(liked.lengths, 1).astype(np.float32)[liked.user_nums] ** np.float32(-row_power)
        scale = float(np.square(values).mean()) if len(values) else 1.0
        return cls(gram(liked.matrix(values)[:, item_nums]), scale, item_nums, popularity_share(liked))


@dataclass(frozen=True)
class Ease:
    """Embarrassingly shallow autoencoder: ridge regression of every title on all others.

    B = I - P diag(P)^-1 with P = (XᵀX + λI)^-1; scores are x B (Steck, "Embarrassingly shallow autoencoders for
    sparse data", WWW 2019). With ``tau`` the user's row x is weighted by recency, exp(-age/tau), where there is order.
    """

    weights: Floats
    """[n_covered, n_covered]: from a title in the history (row) to a title scored (column); zero diagonal."""
    item_nums: Ints
    popularity: Floats
    tau: float | None = None

    @classmethod
    def fit(
        cls,
        histories: Histories,
        *,
        l2: float = 200.0,
        row_power: float = 0.0,
        tau: float | None = None,
        max_items: int = 8_000,
    ) -> Self:
        """Fit on the liked titles.

        Args:
            histories: rows to learn from.
            l2: regularisation, relative to the mean squared entry of the (scaled) rows.
            row_power: rows are scaled by n^-row_power, so that long ones do not rule.
            tau: recency at scoring, in interactions; None weighs the history evenly.
            max_items: only so many titles, the most popular, are modelled.
        """
        return cls.solve(EaseStatistics.of(histories, row_power=row_power, max_items=max_items), l2=l2, tau=tau)

    @classmethod
    def solve(cls, statistics: EaseStatistics, *, l2: float, tau: float | None = None) -> Self:
        """The model of one regularisation."""
        if not len(statistics.item_nums):
            return cls(np.zeros((0, 0), np.float32), statistics.item_nums, statistics.popularity, tau)
        inverse = _inverse(statistics.gram, l2 * statistics.scale)
        weights = np.ascontiguousarray(inverse.T)  # symmetric; rows are contiguous, as scoring reads them
        weights /= -weights.diagonal().copy()  # column j by its own diagonal entry
        np.fill_diagonal(weights, 0.0)
        return cls(weights, statistics.item_nums, statistics.popularity, tau)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def scores(self, histories: Histories) -> Floats:
        """x B, [n_users, n_items]."""
        liked = histories.positives()
        rows = liked.matrix(None if self.tau is None else liked.recency(self.tau))[:, self.item_nums]
        return over_all_titles(
            np.asarray(rows @ self.weights, dtype=np.float32),
            self.item_nums,
            self.popularity,
            known_users(liked, self.item_nums),
        )

    def save(self, folder: Path) -> None:
        """Write the model."""
        arrays = {"weights": self.weights, "item_nums": self.item_nums, "popularity": self.popularity}
        save_weights(folder, type(self).__name__, {"tau": self.tau}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_weights(folder, cls.__name__)
        return cls(arrays["weights"], arrays["item_nums"], arrays["popularity"], settings["tau"])


@dataclass(frozen=True)
class RidgeStatistics:
    """What the order-aware ridge reads of the histories: XᵀX and XᵀY over every place of every history."""

    xx: Floats
    """[n_covered, n_covered]"""
    xy: Floats
    """[n_covered, n_covered]"""
    item_nums: Ints
    popularity: Floats
    tau: float
    window: int

    @classmethod
    def of(
        cls,
        histories: Histories,
        *,
        tau: float = 8.0,
        window: int = 25,
        horizon: int = 20,
        decay: float = 0.9,
        max_items: int = 8_000,
    ) -> Self:
        """Sum over places t: x is the last ``window`` titles weighted exp(-age/tau), y those of the next ``horizon``
        titles that were liked, weighted decay^(lag-1).

        What was watched and not liked is read too: it says as much about where a user stands as what was.

        Pairs are gathered by the distance between their two titles, and the sum over the places t that see both is
        taken in closed form: n·(2·window + horizon) additions instead of n·window·(window + horizon).

        Raises:
            TrainingError: the histories have no order.
        """
        if not histories.ordered:
            raise TrainingError(
                "the order-aware ridge needs timestamps", remedy="leave order_ridge out of [baselines] models"
            )
        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        places = np.full(histories.n_items, -1, np.int64)
        places[item_nums] = np.arange(len(item_nums))
        xx, xy = (np.zeros((len(item_nums), len(item_nums)), np.float32) for _ in range(2))
        for _, block in histories.blocks(max(1, histories.n_users * _BLOCK // max(1, len(histories.item_nums)))):
            sequence = _Sequence(
                places[block.item_nums], block.ages.astype(np.int64), np.asarray(block.positive), len(item_nums)
            )
            sequence.add_inputs(xx, tau, window)
            sequence.add_targets(xy, tau, window, horizon, decay)
        diagonal = xx.diagonal().copy()
        xx += xx.T.copy()
        xx[np.diag_indices_from(xx)] -= diagonal
        return cls(xx, xy, item_nums, popularity_share(liked), tau, window)


@dataclass(frozen=True)
class _Sequence:
    """All histories laid end to end: the covered title of each entry (-1: none), the entries left in its row, and
    whether it was liked."""

    titles: Longs
    left: Longs
    liked: Bools
    n_titles: int

    def add_inputs(self, total: Floats, tau: float, window: int) -> None:
        """Half of XᵀX: a pair ``gap`` apart, seen ``a`` places after the later title, adds exp(-(2a + gap)/tau)."""
        for gap in range(window):
            # The earlier title must be in the window still, and something must follow (else the place teaches nothing).
            terms = np.exp(-(2 * np.arange(window - gap) + gap) / tau)
            sums = np.concatenate([[0.0], np.cumsum(terms)])
            self._add(total, gap, sums[np.minimum(self.left, window - gap)])

    def add_targets(self, total: Floats, tau: float, window: int, horizon: int, decay: float) -> None:
        """XᵀY: a pair ``gap`` apart adds exp(-age/tau)·decay^(lag-1) for every place between, age + lag = gap.

        Only where the later title was liked.
        """
        for gap in range(1, window + horizon):
            ages = np.arange(max(0, gap - horizon), min(window, gap))
            weight = float((np.exp(-ages / tau) * decay ** (gap - ages - 1)).sum())
            self._add(total, gap, np.where(self.liked, weight, 0.0))

    def _add(self, total: Floats, gap: int, weights: Doubles) -> None:
        """Add the weights [n] of the later titles of all pairs of one row that are ``gap`` apart."""
        n = max(len(self.titles) - gap, 0)
        first, second = self.titles[:n], self.titles[gap:]
        # Within a row "left" falls by exactly the gap; beyond a row's end it would have to fall below zero.
        pairs = (self.left[:n] - self.left[gap:] == gap) & (first >= 0) & (second >= 0) & (weights[gap:] > 0)
        flat = first[pairs] * self.n_titles + second[pairs]
        np.add.at(total.reshape(-1), flat, weights[gap:][pairs].astype(np.float32))


@dataclass(frozen=True)
class OrderAwareRidge:
    """Ridge regression of what comes next on what came last: W = (XᵀX + λI)^-1 XᵀY, scores x W.

    x weighs the last ``window`` titles, liked or not, by exp(-age/tau); y holds liked ones. Related to SLIST (Choi et
    al., "Session-aware linear item-item models for session-based recommendation", WWW 2021).
    """

    weights: Floats
    """[n_covered, n_covered]: from a title in the history (row) to a title that follows (column)."""
    item_nums: Ints
    popularity: Floats
    tau: float
    window: int

    @classmethod
    def fit(
        cls,
        histories: Histories,
        *,
        l2: float = 1000.0,
        tau: float = 8.0,
        window: int = 25,
        horizon: int = 20,
        decay: float = 0.9,
        max_items: int = 8_000,
    ) -> Self:
        """Fit on what was watched, in its order (see :meth:`RidgeStatistics.of`)."""
        statistics = RidgeStatistics.of(
            histories, tau=tau, window=window, horizon=horizon, decay=decay, max_items=max_items
        )
        return cls.solve(statistics, l2=l2)

    @classmethod
    def solve(cls, statistics: RidgeStatistics, *, l2: float) -> Self:
        """The model of one regularisation."""
        weights = np.zeros((0, 0), np.float32)
        if len(statistics.item_nums):
            factor = cho_factor(_regularised(statistics.xx, l2), lower=True, overwrite_a=True, check_finite=False)
            weights = np.asarray(cho_solve(factor, statistics.xy, check_finite=False), dtype=np.float32)
        return cls(weights, statistics.item_nums, statistics.popularity, statistics.tau, statistics.window)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def scores(self, histories: Histories) -> Floats:
        """x W, [n_users, n_items]. A history without order is read evenly, and whole."""
        recent = histories.last(self.window) if histories.ordered else histories.positives()
        rows = recent.matrix(recent.recency(self.tau))[:, self.item_nums]
        return over_all_titles(
            np.asarray(rows @ self.weights, dtype=np.float32),
            self.item_nums,
            self.popularity,
            known_users(recent, self.item_nums),
        )

    def save(self, folder: Path) -> None:
        """Write the model."""
        arrays = {"weights": self.weights, "item_nums": self.item_nums, "popularity": self.popularity}
        save_weights(folder, type(self).__name__, {"tau": self.tau, "window": self.window}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_weights(folder, cls.__name__)
        return cls(arrays["weights"], arrays["item_nums"], arrays["popularity"], settings["tau"], settings["window"])


def _regularised(matrix: Floats, l2: float) -> Floats:
    """The matrix with ``l2`` added to its diagonal, column-major as LAPACK wants it (``matrix`` is symmetric)."""
    regularised = np.array(matrix, dtype=np.float32, order="C").T
    regularised[np.diag_indices_from(regularised)] += np.float32(l2)
    return regularised


def _inverse(matrix: Floats, l2: float) -> Floats:
    """(matrix + l2 I)^-1 of a symmetric positive matrix, by Cholesky, [n, n] float32.

    Raises:
        TrainingError: it is not positive definite in single precision.
    """
    factor, fault = lapack.spotrf(_regularised(matrix, l2), lower=True, overwrite_a=True)
    if not fault:
        factor, fault = lapack.spotri(factor, lower=True, overwrite_c=True)
    if fault:
        raise TrainingError(
            f"the co-occurrence matrix cannot be inverted with l2 = {l2:g}", remedy="raise the regularisation"
        )
    for start in range(0, len(factor), _ROWS):  # the upper half is filled in place, a block of columns at a time
        rows = slice(start, start + _ROWS)
        factor[:start, rows] = factor[rows, :start].T
        corner = factor[rows, rows]
        factor[rows, rows] = np.tril(corner) + np.tril(corner, -1).T
    return np.asarray(factor, dtype=np.float32)
