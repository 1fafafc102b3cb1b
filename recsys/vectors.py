"""The vectors of users and titles that the second stage reads, brought into one space whichever copy they are of.

A title that nobody rated gets its content vector, carried over to the space of the decoder's rows by a ridge on the
titles that were rated. Copies of an autoencoder differ by about a rotation, which is found (orthogonal Procrustes) and
undone: inner products stay as they are. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.features import TitleVectors
from recsys.histories import Bools, Floats, Histories
from recsys.pairs import TitleTables

PENALTIES: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties tried for the alignment, relative to the mean squared singular value; by leave-one-out error."""


@runtime_checkable
class Encoder(Protocol):
    """A tower with vectors: an autoencoder with a linear decoder."""

    @property
    def title_vectors(self) -> Floats:
        """[n_items, d] decoder rows."""
        ...

    def encode(self, histories: Histories) -> Floats:
        """User vectors [n_users, d]."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """A tower whose title vectors come from text."""

    @property
    def title_vectors(self) -> Floats:
        """[n_items, c]"""
        ...


@dataclass(frozen=True)
class VectorSpace:
    """One copy's title vectors, and how its user vectors get into the common space."""

    decoder: Floats
    """[n_items, d] rows in the common space, of root mean square 1; d = 0 without an autoencoder."""
    aligned: Floats
    """[n_items, d] content vectors in the common space; zeros without content."""
    content: Floats
    """[n_items, c] unit content vectors; c = 0 without content."""
    turn: Floats
    """[d, d] from the copy's user vectors to the common space, to root mean square 1."""

    @cached_property
    def for_features(self) -> TitleVectors:
        """As the pair features take them."""
        some = bool(self.decoder.shape[1])
        text = bool(self.content.shape[1])
        return TitleVectors(
            decoder=self.decoder if some else None,
            content=self.content if text else None,
            aligned=self.aligned if some and text else None,
        )

    @property
    def tables(self) -> TitleTables:
        """As the network takes them."""
        return TitleTables(self.decoder, self.aligned)

    def users(self, encoder: Encoder | None, histories: Histories) -> Floats:
        """User vectors in the common space, [n_users, d]; empty histories have zeros."""
        if encoder is None:
            return np.zeros((histories.n_users, 0), np.float32)
        vectors = encoder.encode(histories) @ self.turn
        return np.where((histories.positives().lengths > 0)[:, None], vectors, 0).astype(np.float32)


def vector_space(
    encoder: Encoder | None,
    text: TextEncoder | None,
    sample: Histories,
    weights: Floats,
    cold: Bools,
    reference: Floats | None = None,
) -> VectorSpace:
    """Bring a copy's vectors into the common space.

    Args:
        encoder: the copy's autoencoder, or None.
        text: the copy's content tower, or None.
        sample: some histories, to measure the user vectors' size.
        weights: [n_items] how much each title counts when vectors are fitted to each other; cold ones do not.
        cold: [n_items] titles that nobody liked: their decoder rows mean nothing.
        reference: [n_items, d] decoder rows of the copy that the network learned from; None: this is that copy.
    """
    content = _unit(text.title_vectors) if text is not None else np.zeros((len(cold), 0), np.float32)
    if encoder is None:
        nothing = np.zeros((len(cold), 0), np.float32)
        return VectorSpace(nothing, nothing, content, np.zeros((0, 0), np.float32))
    counted = np.where(cold, 0, weights).astype(np.float64)
    rows = encoder.title_vectors.astype(np.float64)
    rotation = np.eye(rows.shape[1]) if reference is None else procrustes(rows, reference, counted)
    decoder = (rows / max(_size(rows[~cold]), 1e-12)) @ rotation
    aligned = align(content, decoder, counted) if content.shape[1] else np.zeros_like(decoder)
    decoder = np.where(cold[:, None], aligned, decoder)
    turn = rotation / max(_size(encoder.encode(sample)), 1e-12)
    return VectorSpace(decoder.astype(np.float32), aligned.astype(np.float32), content, turn.astype(np.float32))


def procrustes(rows: NDArray[Any], reference: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """The rotation R [d, d] for which weighted rows·R is nearest to the reference (Schönemann, 1966)."""
    u, _, v = np.linalg.svd((rows * weights[:, None]).T @ reference)
    return np.asarray(u @ v)


def align(content: NDArray[Any], decoder: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Content vectors carried over to the decoder's space by a weighted ridge, [n_items, d].

    The penalty is the one of least weighted leave-one-out error. Without any title to learn from: zeros.
    """
    if not weights.any():
        return np.zeros(decoder.shape)
    share = np.sqrt(weights / weights.sum())[:, None]
    mean_x, mean_y = (share**2 * content).sum(axis=0), (share**2 * decoder).sum(axis=0)
    x, y = (content - mean_x) * share, (decoder - mean_y) * share
    u, values, v = np.linalg.svd(x, full_matrices=False)
    rotated = u.T @ y
    best: tuple[float, NDArray[Any]] | None = None
    for penalty in PENALTIES:
        shrink = values**2 / (values**2 + penalty * max(float(np.mean(values**2)), 1e-12))
        left_out = (y - u @ (shrink[:, None] * rotated)) / (1 - (u**2 @ shrink))[:, None]
        error = float(np.square(left_out).sum())
        if best is None or error < best[0]:
            best = error, v.T @ ((shrink / np.maximum(values, 1e-12))[:, None] * rotated)
    assert best is not None  # there are penalties
    return np.asarray((content - mean_x) @ best[1] + mean_y)


def _size(vectors: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(vectors, dtype=np.float64).mean())) if vectors.size else 0.0


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
