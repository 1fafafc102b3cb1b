"""Batches are checked against plain loops over the users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.histories import Histories
from recsys.user_batches import Rows, UserInputs, held_out, next_window, whole, with_ties_drawn

N_ITEMS = 12
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=10), min_size=1, max_size=6)


def dense(inputs: UserInputs, n_users: int, channels: int) -> np.ndarray:
    """[n_users, channels * N_ITEMS]"""
    matrix = np.zeros((n_users, channels * N_ITEMS), np.float32)
    ends = [*inputs.offsets[1:], len(inputs.indices)]
    for user, (start, end) in enumerate(zip(inputs.offsets, ends, strict=True)):
        for index, value in zip(inputs.indices[start:end], inputs.values[start:end], strict=True):
            assert matrix[user, index] == 0
            matrix[user, index] = value
    return matrix


def with_negatives(histories: Histories, seed: int) -> Histories:
    positive = np.random.default_rng(seed).random(len(histories.item_nums)) < 0.6
    return replace(histories, positive=positive)


@pytest.mark.parametrize("reads_all", [True, False])
@given(rows=ROWS, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_whole_histories_are_normalised_channels_and_a_sequence(
    reads_all: bool, rows: list[list[int]], seed: int
) -> None:
    histories = with_negatives(Histories.of_lists(rows, N_ITEMS), seed)
    inputs = whole(Rows.of(histories, reads_all=reads_all), taus=(4.0, 0.3), sequence_length=3)
    matrix = dense(inputs, len(rows), 4 if reads_all else 3)
    assert inputs.sequence is not None
    for user in range(len(rows)):
        entries = histories.row(user)
        items, positive = histories.item_nums[entries], histories.positive[entries]
        read = items if reads_all else items[positive]
        assert inputs.log_lengths[user] == pytest.approx(np.log1p(len(read)))
        newest = read[::-1][:3].tolist()
        assert inputs.sequence[user].tolist()[: len(newest)] == newest
        assert (inputs.sequence[user][len(newest) :] == N_ITEMS).all()
        ages = np.arange(len(read))[::-1]
        liked = positive[positive | reads_all]
        channels = [liked * 1.0, np.exp(-ages / 4.0), np.exp(-ages / 0.3), ~liked * 1.0]
        for channel, values in enumerate(channels[: 4 if reads_all else 3]):
            expected = np.zeros(N_ITEMS)
            expected[read] = values / max(np.linalg.norm(values), 1e-12)
            np.testing.assert_allclose(matrix[user, channel * N_ITEMS : (channel + 1) * N_ITEMS], expected, atol=1e-4)


@pytest.mark.parametrize("reads_all", [True, False])
@given(rows=ROWS, seed=st.integers(0, 99), dropout=st.sampled_from([0.0, 0.5]))
@settings(max_examples=30, deadline=None)
def test_the_next_window_follows_its_prefix(reads_all: bool, rows: list[list[int]], seed: int, dropout: float) -> None:
    histories = with_negatives(Histories.of_lists(rows, N_ITEMS), seed)
    inputs, targets = next_window(
        Rows.of(histories, reads_all=reads_all),
        np.random.default_rng(seed),
        taus=(5.0,),
        sequence_length=4,
        dropout=dropout,
        window=2,
    )
    matrix = dense(inputs, len(rows), 3 if reads_all else 2)
    for user in range(len(rows)):
        entries = histories.row(user)
        items, positive = histories.item_nums[entries], histories.positive[entries]
        reads = positive | reads_all
        wanted = targets.items[targets.rows == user].tolist()
        seen = targets.seen_items[targets.seen_rows == user].tolist()
        if reads.sum() < 2:
            assert wanted == items[positive & reads].tolist()
            assert matrix[user].sum() == 0
            continue
        assert seen == items[: len(seen)].tolist(), "something from after the cut is known"
        before = reads[: len(seen)]
        cut = int(before.sum())
        assert 1 <= cut < reads.sum()
        window = np.flatnonzero(reads)[cut : cut + max(2, cut // 4)]
        assert wanted == items[window][positive[window]].tolist()
        shown = matrix[user].reshape(-1, N_ITEMS).any(axis=0)
        read = set(np.flatnonzero(shown).tolist())
        assert read <= set(items[: len(seen)][before].tolist())
        if dropout == 0:
            assert read == set(items[: len(seen)][before].tolist())
        assert targets.weights[user] == pytest.approx(len(wanted) ** -0.5 if wanted else 0)


@given(rows=ROWS, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_what_is_held_out_is_not_read(rows: list[list[int]], seed: int) -> None:
    histories = with_negatives(Histories.of_lists(rows, N_ITEMS, ordered=False), seed)
    inputs, targets = held_out(Rows.of(histories, reads_all=False), np.random.default_rng(seed))
    matrix = dense(inputs, len(rows), 1)
    assert inputs.sequence is None
    for user in range(len(rows)):
        entries = histories.row(user)
        liked = set(histories.item_nums[entries][histories.positive[entries]].tolist())
        wanted = set(targets.items[targets.rows == user].tolist())
        read = set(np.flatnonzero(matrix[user]).tolist())
        assert read | wanted == liked
        assert not read & wanted
        assert bool(wanted) == bool(liked)
        seen = set(targets.seen_items[targets.seen_rows == user].tolist())
        assert seen == set(histories.item_nums[entries].tolist()) - wanted
        assert targets.weights[user] == pytest.approx(len(wanted) ** -0.5 if wanted else 0)


def test_the_share_that_is_held_out_varies_between_its_bounds() -> None:
    histories = Histories.of_lists([list(range(1000))] * 200, 1000, ordered=False)
    _, targets = held_out(Rows.of(histories, reads_all=False), np.random.default_rng(0))
    shares = np.bincount(targets.rows) / 1000
    assert 0.05 < shares.min() < 0.15
    assert 0.62 < shares.max() < 0.75


def test_no_users_at_all() -> None:
    inputs = whole(Rows.of(Histories.of_lists([], 3), reads_all=True), taus=(2.0,), sequence_length=2)
    assert len(inputs.offsets) == len(inputs.indices) == 0


def test_only_ties_are_drawn_anew() -> None:
    histories = Histories.of_lists([[0, 1, 2, 3], [4, 5], [6]], N_ITEMS)
    histories = replace(histories, timestamps=np.array([1, 2, 2, 3, 7, 7, 9]), ratings=np.arange(7, dtype=np.float32))
    seen = set()
    for seed in range(30):
        drawn = with_ties_drawn(histories, np.random.default_rng(seed))
        assert drawn.item_nums[[0, 3, 6]].tolist() == [0, 3, 6]
        np.testing.assert_array_equal(drawn.item_nums, drawn.ratings)  # ratings go with their titles
        np.testing.assert_array_equal(drawn.timestamps, histories.timestamps)
        seen.add(tuple(drawn.item_nums.tolist()))
    assert seen == {(0, *a, 3, *b, 6) for a in ((1, 2), (2, 1)) for b in ((4, 5), (5, 4))}
    unordered = histories.unordered()
    assert with_ties_drawn(unordered, np.random.default_rng(0)) is unordered
