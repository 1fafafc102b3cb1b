"""The common vector space: rotations undone, content carried over, cold titles given vectors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from recsys.histories import Floats, Histories
from recsys.vectors import align, procrustes, vector_space

N_ITEMS, SIZE = 40, 5


class Planted:
    """An autoencoder whose users are the sum of their titles."""

    def __init__(self, rows: Floats) -> None:
        self.title_vectors = rows.astype(np.float32)

    def encode(self, histories: Histories) -> Floats:
        return np.asarray(histories.matrix() @ self.title_vectors)


class Text:
    def __init__(self, rows: Floats) -> None:
        self.title_vectors = rows.astype(np.float32)


@pytest.fixture
def rows() -> Floats:
    return np.random.default_rng(0).normal(size=(N_ITEMS, SIZE)).astype(np.float32)


@pytest.fixture
def histories() -> Histories:
    return Histories.of_lists([[0, 1, 2], [3, 4], []], N_ITEMS)


def test_procrustes_finds_a_rotation(rows: Floats) -> None:
    rotation = ortho_group.rvs(SIZE, random_state=1)
    assert np.allclose(procrustes(rows @ rotation.T, rows, np.ones(N_ITEMS)), rotation, atol=1e-5)


def test_two_copies_come_into_one_space(rows: Floats, histories: Histories) -> None:
    """The same autoencoder, turned and stretched, gives the same vectors; products are those of either copy."""
    cold, weights = np.zeros(N_ITEMS, np.bool_), np.ones(N_ITEMS, np.float32)
    first, turned = Planted(rows), Planted(rows @ ortho_group.rvs(SIZE, random_state=2) * 3)
    space = vector_space(first, None, histories, weights, cold)
    other = vector_space(turned, None, histories, weights, cold, reference=space.decoder)
    assert np.allclose(space.decoder, other.decoder, atol=1e-4)
    users, others = space.users(first, histories), other.users(turned, histories)
    assert np.allclose(users, others, atol=1e-4)
    assert not users[2].any()  # an empty history has no vector
    assert np.square(space.decoder).mean() == pytest.approx(1, rel=1e-4)
    ours, theirs = users[:2] @ space.decoder.T, first.encode(histories)[:2] @ rows.T
    assert np.allclose(ours, theirs * (ours[0, 0] / theirs[0, 0]), rtol=1e-3, atol=1e-4)


def test_content_is_carried_over_where_it_tells_something(rows: Floats) -> None:
    rng = np.random.default_rng(3)
    content = np.concatenate([rows @ rng.normal(size=(SIZE, 6)), rng.normal(size=(N_ITEMS, 2))], axis=1)
    known = np.arange(N_ITEMS) < 30
    aligned = align(content, rows, known.astype(np.float64))
    error = np.square(aligned - rows)[~known].mean() / np.square(rows)[~known].mean()
    assert error < 0.1
    assert not align(content, rows, np.zeros(N_ITEMS)).any()


def test_a_cold_title_has_its_aligned_content_vector(rows: Floats, histories: Histories) -> None:
    cold = np.arange(N_ITEMS) >= 35
    broken = rows.copy()
    broken[cold] = 99  # untrained rows must not be read
    space = vector_space(Planted(broken), Text(rows), histories, np.ones(N_ITEMS, np.float32), cold)
    cosines = (space.decoder * rows).sum(1) / np.linalg.norm(space.decoder, axis=1) / np.linalg.norm(rows, axis=1)
    assert (cosines[cold] > 0.6).all()
    assert np.array_equal(space.decoder[cold], space.aligned[cold])
    assert np.isfinite(space.decoder).all()
    bare = vector_space(Planted(broken), None, histories, np.ones(N_ITEMS, np.float32), cold)
    assert not bare.decoder[cold].any()
    assert bare.for_features.aligned is None
    assert bare.for_features.content is None


def test_without_an_autoencoder_there_are_no_vectors(rows: Floats, histories: Histories) -> None:
    space = vector_space(None, Text(rows), histories, np.ones(N_ITEMS, np.float32), np.zeros(N_ITEMS, np.bool_))
    assert space.users(None, histories).shape == (3, 0)
    assert space.tables.decoder.shape == (N_ITEMS, 0)
    assert space.for_features.decoder is None
    assert space.for_features.content is not None
