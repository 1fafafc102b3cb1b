"""Sequences of titles: what the order-aware rivals read, and the loss that they share.

Rows are padded on the right, so that a causal network never sees padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from recsys.histories import Histories, Longs
from recsys.user_batches import with_ties_drawn

_STEPS, _LEAST = 60, 16


def newest(liked: Histories, length: int) -> tuple[Tensor, Tensor]:
    """The newest titles of each user, oldest first.

    Returns:
        [n_users, at most length, at least 1] titles, 0 where there is none; [n_users] place of the newest, 0 for an
        empty row.
    """
    recent = liked.last(length)
    lengths = recent.lengths
    titles = _padded(recent.item_nums, recent.indptr[:-1], lengths)
    return torch.from_numpy(np.maximum(titles, 0)), torch.from_numpy(np.maximum(lengths - 1, 0))


def pieces(liked: Histories, length: int, rng: np.random.Generator) -> Longs:
    """Every row cut at a random place into pieces of ``length`` inputs and the title after: [n, length + 1].

    So that long rows teach whole, not by their newest titles alone. Short pieces are padded with -1; consecutive
    pieces share one title, a target of the first and an input of the second.
    """
    first = [_cuts(start, end, length, rng) for start, end in zip(liked.indptr[:-1], liked.indptr[1:], strict=True)]
    starts, ends = np.concatenate(first, axis=1) if first else np.zeros((2, 0), np.int64)
    return _padded(liked.item_nums, starts, ends - starts)


def _cuts(start: int, end: int, length: int, rng: np.random.Generator) -> Longs:
    """Starts and ends of one row's pieces, [2, n]; none for a row without a target."""
    if end - start < 2:
        return np.zeros((2, 0), np.int64)
    if end - start <= length + 1:
        return np.array([[start], [end]], np.int64)
    edges = np.arange(start + rng.integers(1, length + 1), end - 1, length)
    edges = np.concatenate([[start], edges, [end - 1]])
    return np.stack([edges[:-1], edges[1:] + 1])


def _padded(items: np.ndarray[tuple[int], np.dtype[np.int32]], starts: Longs, lengths: Longs) -> Longs:
    """[n, longest, at least 1] the slices of ``items``, padded with -1 on the right."""
    width = max(1, int(lengths.max(initial=0)))
    held = np.arange(width) < lengths[:, None]
    padded = np.full(held.shape, -1, np.int64)
    padded[held] = items[(starts[:, None] + np.arange(width))[held]]
    return padded


def split_targets(piece: Longs) -> tuple[Tensor, Tensor]:
    """Inputs [n, length] (0 where padded) and the title after each (-1 where padded) of :func:`pieces`."""
    width = max(2, int((piece >= 0).sum(axis=1).max()))  # no wider than the longest of the batch
    rows = torch.from_numpy(piece[:, :width])
    return rows[:, :-1].clamp(min=0), rows[:, 1:]


def next_title_loss(states: Tensor, targets: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the next title over all titles (full softmax), over the places that have a next one.

    Args:
        states: [n, length, size]
        targets: [n, length], -1 for none.
        table: [n_titles, size]
        bias: [n_titles]
    """
    held = targets >= 0
    return F.cross_entropy(F.linear(states[held], table, bias), targets[held])


def batches(liked: Histories, length: int, most: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch's inputs and targets, shuffled: ``most`` pieces a batch, fewer where that gives less than 60 steps."""
    cut = pieces(with_ties_drawn(liked, rng), length, rng)
    size = int(np.clip(len(cut) // _STEPS, _LEAST, most))
    for part in np.array_split(rng.permutation(len(cut)), max(1, len(cut) // size)):
        if len(part):
            yield split_targets(cut[part])
