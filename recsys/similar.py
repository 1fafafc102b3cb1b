"""The space of titles in which "similar" is measured: what people watch together, and what titles are about.

Behaviour vectors come from the interactions (a truncated SVD of the degree-normalised matrix: Cremonesi et al., 2010,
"PureSVD"), or from the model where it has its own; content vectors from the content CNN. A title that nobody has
watched has only content.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.histories import Bools, Floats, Histories, Ints
from recsys.retrieval import retrieve

BEHAVIOUR_SHARE = 0.7
"""Share of behaviour in the similarity of two titles that both have interactions."""


def unit_rows(matrix: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(lengths > 1e-12, lengths, 1.0)).astype(np.float32)


def behaviour_vectors(histories: Histories, size: int = 64) -> Floats:
    """Title vectors [n_items, size] from positive interactions; zero for titles without any."""
    matrix = histories.positives().matrix()
    users = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    items = np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1.0)
    scaled = sparse.diags(users**-0.5) @ matrix @ sparse.diags(items**-0.5)
    rank = min(size, min(scaled.shape) - 1)
    if rank < 1:
        return np.ones((histories.n_items, 1), np.float32)
    right, strengths = _right_singular_vectors(scaled.tocsr(), rank)
    vectors = right * strengths
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(rank)])
    return np.ascontiguousarray(vectors * np.where(signs == 0, 1, signs), dtype=np.float32)


def _right_singular_vectors(matrix: sparse.csr_matrix, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By randomised subspace iteration (Halko et al., 2011): unlike ARPACK, the same result every time."""
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], min(rank + 10, *matrix.shape)))
    basis = np.linalg.qr(start)[0]
    for _ in range(6):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    _, strengths, rotation = np.linalg.svd(matrix @ basis, full_matrices=False)
    return basis @ rotation[:rank].T, strengths[:rank]


def title_space(behaviour: Floats, content: Floats | None, has_interactions: Bools) -> Floats:
    """Joint unit vectors [n_items, d]: their dot products are similarities in [-1, 1].

    Args:
        behaviour: [n_items, a].
        content: [n_items, b], or None where there is no content model.
        has_interactions: [n_items] booleans; behaviour counts only for these.
    """
    known = unit_rows(behaviour) * has_interactions[:, None]
    if content is None:
        return known.astype(np.float32)
    parts = [np.sqrt(BEHAVIOUR_SHARE) * known, np.sqrt(1 - BEHAVIOUR_SHARE) * unit_rows(content)]
    return unit_rows(np.concatenate(parts, axis=1).astype(np.float32))


def similar_blocks(
    space: Floats, listable: Bools, n: int, block_size: int = 128, threads: int | None = None
) -> Iterator[tuple[int, Ints, Floats]]:
    """The n most similar other listable titles of every title: (first title, items [b, n], scores [b, n])."""
    own = np.arange(len(space) + 1)
    itself = Histories(
        own, own[:-1].astype(np.int32), own[:-1].astype(np.float32), own[:-1] >= 0, timestamps=None, n_items=len(space)
    )
    return retrieve(space, space, n, seen=itself, listable=listable, block_size=block_size, threads=threads)
