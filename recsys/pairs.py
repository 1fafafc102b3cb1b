"""Users and their candidates as the second stage reads them, and how well candidates are ranked.

Plain arrays: knows nothing of towers, features or networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from recsys.histories import Bools, Floats, Ints, Longs


@dataclass(frozen=True)
class TitleTables:
    """Vectors by title number, in one space. d = 0 where there are none."""

    decoder: Floats
    """[n_items, d]"""
    content: Floats
    """[n_items, d] zeros without content."""


@dataclass(frozen=True)
class Pairs:
    """Users with their candidates, as the network reads them."""

    features: Floats
    """[n_users, k, n_features] standardised."""
    blend: Floats
    """[n_users, k]"""
    items: Ints
    """[n_users, k]; -1 where a user has fewer candidates."""
    user_vectors: Floats
    """[n_users, d], in the space of the title tables."""

    @property
    def there(self) -> Bools:
        """[n_users, k] which places hold a candidate."""
        return np.asarray(self.items >= 0)


def joined(parts: Sequence[Pairs]) -> Pairs:
    """The users of all parts, one part after the other."""
    columns = ((getattr(part, field.name) for part in parts) for field in fields(Pairs))
    return parts[0] if len(parts) == 1 else Pairs(*(np.concatenate(list(column)) for column in columns))


@dataclass(frozen=True)
class Lesson:
    """Pairs, and what came of them in the window after."""

    pairs: Pairs
    wanted: Bools
    """[n_users, k]"""
    n_targets: Longs
    """[n_users] all that was wanted, retrieved or not; at least 1."""


def ndcg_at_10(scores: Floats, wanted: Bools, n_targets: Longs) -> Floats:
    """NDCG@10 per user over candidates, [n_users].

    Args:
        scores: [n_users, m], -inf for places without a candidate.
        wanted: [n_users, m] which candidates are relevant.
        n_targets: [n_users] all relevant titles, also those that are no candidates; at least 1.
    """
    k = min(10, scores.shape[1])
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable"), axis=1)
    discounts = 1 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    gained = np.take_along_axis(wanted, best, axis=1) @ discounts[:k]
    return np.asarray(gained / ideal[np.minimum(n_targets, 10)], np.float32)
