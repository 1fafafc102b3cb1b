"""Rivals that any recommender has to beat: popularity, recent popularity, item-kNN, and iALS.

Each is fitted in closed form or by alternating solves, reads positive interactions only, and scores users by their
histories alone. Knows nothing of tuning: see :mod:`recsys.rivals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy import sparse

from recsys.cooccurrence import counts, covered_titles, gram, known_users, popularity_share
from recsys.histories import Floats, Histories, Ints
from recsys.scoring import over_all_titles
from recsys.weights import load_weights, save_weights

_COLUMNS = 512
_ENTRIES = 1 << 13


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
        max_items: int = 12_000,
    ) -> Self:
        """Count co-occurrences and keep the nearest."""
        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        together = gram(liked.matrix()[:, item_nums])
        return cls.of_gram(together, liked, item_nums, neighbours=neighbours, shrinkage=shrinkage, tau=tau)

    @classmethod
    def of_gram(
        cls,
        together: Floats,
        liked: Histories,
        item_nums: Ints,
        *,
        neighbours: int,
        shrinkage: float,
        tau: float | None = None,
    ) -> Self:
        """The model from co-occurrence counts [n_covered, n_covered] (so that a grid of settings shares them)."""
        norms = np.sqrt(together.diagonal())
        blocks = []
        for start in range(0, len(item_nums), _COLUMNS):
            columns = slice(start, min(start + _COLUMNS, len(item_nums)))
            block = together[:, columns] / (norms[:, None] * norms[columns] + shrinkage)
            block[np.arange(columns.start, columns.stop), np.arange(block.shape[1])] = 0.0
            if neighbours < len(block):
                least = np.partition(block, len(block) - neighbours, axis=0)[len(block) - neighbours]
                block[block < least] = 0.0
            blocks.append(sparse.csr_matrix(block))
        similarity = sparse.csr_matrix(sparse.hstack(blocks)) if blocks else sparse.csr_matrix((0, 0), dtype=np.float32)
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
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        liked = histories.positives()
        item_nums = covered_titles(liked, max_items)
        model = AlternatingLeastSquares(
            factors=embedding_size,
            regularization=l2,
            alpha=1.0,
            iterations=epochs,
            random_state=seed,
            calculate_training_loss=False,
        )
        if len(item_nums):
            with threadpool_limits(1, "blas"):  # as the library asks: it has threads of its own
                model.fit(alpha * liked.matrix()[:, item_nums], show_progress=False)
            factors = np.array(model.item_factors, dtype=np.float32)
        else:
            factors = np.zeros((0, embedding_size), np.float32)
        return cls(factors, item_nums, popularity_share(liked), alpha, l2, tau)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def users(self, liked: Histories) -> Floats:
        """The users' factors [n_users, embedding_size], each solved exactly from its row; users alike are batched."""
        confidence = 1 + (self.alpha - 1) * (liked.recency(self.tau) if self.tau else 1.0)
        rows = liked.matrix(np.broadcast_to(confidence, liked.item_nums.shape).astype(np.float32))[:, self.item_nums]
        size = self.factors.shape[1]
        base = self.factors.T @ self.factors + np.float32(self.l2) * np.eye(size, dtype=np.float32)
        lengths = np.diff(rows.indptr)
        found = np.zeros((rows.shape[0], size), np.float32)
        padded = np.concatenate([self.factors, np.zeros((1, size), np.float32)])
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        while len(order):
            padded_sizes = np.arange(1, len(order) + 1) * lengths[order]  # rows of about the same length go together
            batch = order[: max(1, int((padded_sizes <= _ENTRIES).sum()))]
            order = order[len(batch) :]
            found[batch] = _solve(rows[batch], padded, base)
        return found

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


def _solve(rows: sparse.csr_matrix, factors: Floats, base: Floats) -> Floats:
    """Solve (base + Yᵀ(C-1)Y) x = YᵀC1 for a batch of users; ``factors``' last row is padding."""
    lengths = np.diff(rows.indptr)
    held = np.arange(lengths.max()) < lengths[:, None]  # [users, longest]
    places = np.full(held.shape, len(factors) - 1)
    confidence = np.ones((*held.shape, 1), np.float32)
    places[held], confidence[held, 0] = rows.indices, rows.data
    liked = factors[places]  # [users, longest, size]
    left = base + liked.transpose(0, 2, 1) @ ((confidence - 1) * liked)  # [users, size, size]
    right = (confidence * liked).sum(axis=1)  # [users, size]
    return np.asarray(np.linalg.solve(left, right[:, :, None])[:, :, 0], dtype=np.float32)
