"""Rivals that any recommender has to beat: popularity, recent popularity, item-kNN, and iALS.

Each is fitted in closed form or by alternating solves, reads positive interactions only, and scores users by their
histories alone. Knows nothing of tuning: see :mod:`recsys.rivals`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse

from recsys.cooccurrence import counts, covered_titles, gram_blocks, known_users, popularity_share
from recsys.histories import Floats, Histories, Ints
from recsys.scoring import over_all_titles
from recsys.weights import load_weights, save_weights


@dataclass(frozen=True)
class Popularity:
    """Every title's number of positive interactions, relative to the most popular one's: the same for every user."""

    popularity: Floats
    """[n_items] in [0, 1]"""

    @classmethod
    def fit(cls, histories: Histories) -> Self:
        """Count."""
        return cls(popularity_share(histories.positives()))

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def scores(self, histories: Histories) -> Floats:
        """The popularities, once per user, [n_users, n_items]."""
        return np.tile(self.popularity, (histories.n_users, 1))

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_weights(folder, type(self).__name__, {}, {"popularity": self.popularity})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        return cls(load_weights(folder, cls.__name__)[1]["popularity"])


class RecentPopularity(Popularity):
    """Popularity in which an interaction's weight halves with age: what is popular at the end of the data."""

    @classmethod
    def fit(cls, histories: Histories, half_life: float = 0.1) -> Self:
        """Count with weights ½^(age / half_life).

        Args:
            histories: with time; without it this is plain popularity.
            half_life: as a share of the time from the first to the last interaction, so that it travels between data.
        """
        liked = histories.positives()
        if liked.timestamps is None or not len(liked.item_nums):
            return cls(popularity_share(liked))
        age = liked.timestamps.max() - liked.timestamps
        weights = 0.5 ** (age / max(half_life * float(age.max()), 1.0))
        recent = np.bincount(liked.item_nums, weights=weights, minlength=liked.n_items)
        weighted = recent + 1e-6 * counts(liked)  # titles long forgotten stay above those never watched
        return cls((weighted / weighted.max()).astype(np.float32))


@dataclass(frozen=True)
class ItemKnn:
    """Item-based nearest neighbours: a title's score is the sum of its similarities to the user's titles.

    Shrunk cosine c_ij / (√(n_i n_j) + shrinkage); of each title's column only its ``neighbours`` nearest are kept
    (Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001).
    """

    similarity: sparse.csr_matrix
    """[n_covered, n_covered]: from a title in the history (row) to a title scored (column)."""
    item_nums: Ints
    """[n_covered]"""
    popularity: Floats
    """[n_items] in [0, 1]"""
    tau: float | None = None
    """Recency of the history at scoring: weights exp(-age/tau); None weighs all alike."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        *,
        neighbours: int = 100,
        shrinkage: float = 10.0,
        tau: float | None = None,
        max_items: int = 200_000,
    ) -> Self:
        """Count co-occurrences, a block of titles at a time, and keep the nearest."""
        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        together = gram_blocks(liked.matrix()[:, item_nums])
        return cls.of_gram(together, liked, item_nums, neighbours=neighbours, shrinkage=shrinkage, tau=tau)

    @classmethod
    def of_gram(
        cls,
        together: Iterable[sparse.csr_matrix],
        liked: Histories,
        item_nums: Ints,
        *,
        neighbours: int,
        shrinkage: float,
        tau: float | None = None,
    ) -> Self:
        """The model from co-occurrence counts, blocks of rows of [n_covered, n_covered] (a grid of settings shares
        them)."""
        norms = np.sqrt(counts(liked)[item_nums])
        kept, start = [sparse.csr_matrix((0, len(item_nums)), dtype=np.float32)], 0
        for block in together:
            kept.append(_nearest(block, start, norms, neighbours, shrinkage))
            start += block.shape[0]
        similarity = sparse.csr_matrix(sparse.vstack(kept).T)  # the counts are symmetric: a row is what is scored
        similarity.sort_indices()
        return cls(similarity, item_nums, popularity_share(liked), tau)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def scores(self, histories: Histories) -> Floats:
        """Sums of similarities, [n_users, n_items]."""
        liked = histories.positives()
        rows = liked.matrix(None if self.tau is None else liked.recency(self.tau))[:, self.item_nums]
        found = np.asarray((rows @ self.similarity).todense(), dtype=np.float32)
        return over_all_titles(found, self.item_nums, self.popularity, known_users(liked, self.item_nums))

    def save(self, folder: Path) -> None:
        """Write the model."""
        arrays = {
            "data": self.similarity.data.astype(np.float32),
            "indices": self.similarity.indices.astype(np.int32),
            "indptr": self.similarity.indptr.astype(np.int64),
            "item_nums": self.item_nums,
            "popularity": self.popularity,
        }
        save_weights(folder, type(self).__name__, {"tau": self.tau}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_weights(folder, cls.__name__)
        shape = (len(arrays["item_nums"]),) * 2
        similarity = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape)
        return cls(similarity, arrays["item_nums"], arrays["popularity"], settings["tau"])


@dataclass(frozen=True)
class Ials:
    """Implicit alternating least squares: a user is the solution of one small ridge, so that new ones fold in.

    Minimises Σ_u Σ_i c_ui (p_ui - x_u·y_i)² + λ (Σ‖x_u‖² + Σ‖y_i‖²), with p = 1 and c = ``alpha`` where the title was
    liked, p = 0 and c = 1 elsewhere (Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets",
    ICDM 2008). Titles' factors come from the library ``implicit``; users are solved exactly.
    """

    factors: Floats
    """[n_covered, embedding_size]"""
    item_nums: Ints
    """[n_covered]"""
    popularity: Floats
    """[n_items] in [0, 1]"""
    alpha: float
    l2: float
    tau: float | None = None
    """Recency of the history at scoring: a liked title's confidence is 1 + (alpha - 1)·exp(-age/tau); None: alpha."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        *,
        embedding_size: int = 128,
        l2: float = 10.0,
        alpha: float = 10.0,
        tau: float | None = None,
        epochs: int = 12,
        max_items: int = 200_000,
        seed: int = 0,
    ) -> Self:
        """Alternate for ``epochs`` sweeps; the same seed gives the same factors."""
        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        factors = np.zeros((0, embedding_size), np.float32)
        if len(item_nums):
            with _one_blas_thread():
                model = _implicit(factors=embedding_size, regularization=l2, iterations=epochs, random_state=seed)
                model.fit(alpha * liked.matrix()[:, item_nums], show_progress=False)
            factors = np.array(model.item_factors, dtype=np.float32)
        return cls(factors, item_nums, popularity_share(liked), alpha, l2, tau)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def users(self, liked: Histories) -> Floats:
        """The users' factors [n_users, embedding_size], each solved exactly from its row."""
        if not len(self.factors):
            return np.zeros((liked.n_users, self.factors.shape[1]), np.float32)
        confidence = 1 + (self.alpha - 1) * (liked.recency(self.tau) if self.tau else 1.0)
        rows = liked.matrix(np.broadcast_to(confidence, liked.item_nums.shape).astype(np.float32))[:, self.item_nums]
        with _one_blas_thread():
            return np.asarray(self._solver.recalculate_user(np.arange(liked.n_users), rows), dtype=np.float32)

    @cached_property
    def _solver(self) -> Any:
        """The library's model over these factors: it keeps what all users' equations share."""
        model = _implicit(factors=self.factors.shape[1], regularization=self.l2)
        model.item_factors = self.factors
        return model

    def scores(self, histories: Histories) -> Floats:
        """Preferences x_u·y_i, [n_users, n_items]."""
        liked = histories.positives()
        found = self.users(liked) @ self.factors.T
        return over_all_titles(found, self.item_nums, self.popularity, known_users(liked, self.item_nums))

    def save(self, folder: Path) -> None:
        """Write the model."""
        settings = {"alpha": self.alpha, "l2": self.l2, "tau": self.tau}
        arrays = {"factors": self.factors, "item_nums": self.item_nums, "popularity": self.popularity}
        save_weights(folder, type(self).__name__, settings, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = load_weights(folder, cls.__name__)
        return cls(arrays["factors"], arrays["item_nums"], arrays["popularity"], **settings)


def _nearest(
    together: sparse.csr_matrix, start: int, norms: Floats, neighbours: int, shrinkage: float
) -> sparse.csr_matrix:
    """Shrunk cosines of some titles with all, the ``neighbours`` largest of each row (and what ties with the last).

    Args:
        together: [rows, n_covered] rows of the co-occurrence counts.
        start: the first row's place among the titles.
        norms: [n_covered] roots of the titles' counts.
        neighbours: kept per row.
        shrinkage: added to the denominator.
    """
    rows = np.repeat(np.arange(start, start + together.shape[0]), np.diff(together.indptr))
    values = together.data / (norms[rows] * norms[together.indices] + shrinkage)
    values[rows == together.indices] = 0.0  # a title is no neighbour of its own
    for first, last in pairwise(together.indptr):
        row = values[first:last]
        if neighbours < len(row):
            row[row < np.partition(row, len(row) - neighbours)[len(row) - neighbours]] = 0.0
    found = sparse.csr_matrix((values, together.indices, together.indptr), together.shape, copy=True)
    found.eliminate_zeros()
    return found


def _implicit(**settings: Any) -> Any:
    from implicit.cpu.als import AlternatingLeastSquares

    return AlternatingLeastSquares(alpha=1.0, calculate_training_loss=False, **settings)


def _one_blas_thread() -> AbstractContextManager[Any]:
    """As the library ``implicit`` asks: it has threads of its own."""
    manager: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return manager


@cache
def _blas() -> Any:
    import implicit.cpu.als  # noqa: F401  loads what is looked for below
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all loaded libraries: once, not for every block of users
