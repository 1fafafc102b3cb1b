"""Pair features and title statistics: by hand on tiny histories, and their promises (finite, no order needed)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.features import CLIP, Block, Standardiser, TitleVectors, _standing, pair_features
from recsys.histories import Floats, Histories
from recsys.title_statistics import LIFT_SHRINKAGE, TRANSITION_DECAY, TitleStatistics, title_statistics

N_ITEMS = 6
DAY = 86_400_000_000


def titles(n: int = N_ITEMS, **given: list[object]) -> pa.Table:
    known = {columns.ITEM_ID: [f"m{number}" for number in range(n)], **given}
    empty = {True: [[]] * n, False: [None] * n}
    return pa.table(
        {f.name: pa.array(known.get(f.name, empty[pa.types.is_list(f.type)]), f.type) for f in columns.TITLES},
        schema=columns.TITLES,
    )


def described(
    histories: Histories,
    candidates: list[list[int]],
    statistics: TitleStatistics,
    vectors: TitleVectors | None = None,
    users: Floats | None = None,
) -> dict[str, Floats]:
    scores = np.tile(np.arange(histories.n_items, dtype=np.float32), (histories.n_users, 1))
    unseen = np.ones(scores.shape, np.bool_)
    unseen[histories.user_nums, histories.item_nums] = False
    block = Block(
        histories=histories,
        candidates=np.array(candidates, np.int32),
        scores={"tower": scores},
        zscores={"tower": scores / 2},
        blend=scores * 3,
        unseen=unseen,
        user_vectors=users,
    )
    return pair_features(block, statistics, vectors or TitleVectors(None, None, None))


def test_popularity_place_and_cold_titles_by_hand() -> None:
    statistics = title_statistics(Histories.of_lists([[0, 1, 2], [1, 0], [1]], N_ITEMS), titles())
    assert np.allclose(statistics.log_popularity, np.log1p([2, 3, 1, 0, 0, 0]))
    assert statistics.cold.tolist() == [False, False, False, True, True, True]
    # place: (sum of relative places + a half) / (count + 1); a row of one is at the end (1)
    assert np.allclose(statistics.place, [(0 + 1 + 0.5) / 3, (0.5 + 0 + 1 + 0.5) / 4, (1 + 0.5) / 2, 0.5, 0.5, 0.5])


def test_followers_count_by_distance_and_direction() -> None:
    statistics = title_statistics(Histories.of_lists([[0, 1, 2], [0, 1]], N_ITEMS), titles())
    followers = statistics.followers.toarray()
    assert followers[0, 1] == 2
    assert followers[0, 2] == pytest.approx(TRANSITION_DECAY)
    assert followers[1, 2] == 1
    assert np.count_nonzero(followers) == 3
    came = np.array([0, 2, 1 + TRANSITION_DECAY])
    chance = came / came.sum()
    total = 2 + TRANSITION_DECAY
    expected = np.log((2 + LIFT_SHRINKAGE * chance[1]) / ((total + LIFT_SHRINKAGE) * chance[1]))
    lift = statistics.lift(np.array([0, -1]), np.array([[1, 0, 5], [1, 0, 5]], np.int32))
    assert lift[0, 0] == pytest.approx(expected, rel=1e-5)
    assert lift[0, 1:].tolist() == [0, 0]  # nothing comes after a title that never comes after anything
    assert lift[1].tolist() == [0, 0, 0]
    backward = statistics.lift(np.array([1]), np.array([[0, 2]], np.int32), backward=True)
    assert backward[0, 0] > 0  # 0 is what comes before 1
    assert backward[0, 1] == 0


def test_ratings_trend_and_debut_by_hand() -> None:
    histories = Histories(
        indptr=np.array([0, 2, 4]),
        item_nums=np.array([0, 1, 0, 2], np.int32),
        ratings=np.array([5, 2, 4, 5], np.float32),
        positive=np.array([True, False, True, True]),
        timestamps=np.array([0, DAY, 3 * DAY, 9 * DAY]),
        n_items=N_ITEMS,
    )
    statistics = title_statistics(histories, titles())
    assert statistics.explicit
    assert statistics.cold.tolist() == [False, True, False, True, True, True]  # seen is not liked
    assert statistics.mean_rating[0] == pytest.approx((9 + 10 * 4) / 12)
    assert statistics.mean_rating[5] == pytest.approx(4)
    assert statistics.debut.tolist() == [0, DAY, 9 * DAY, 9 * DAY, 9 * DAY, 9 * DAY]
    assert statistics.trend[2] > 0 > statistics.trend[0]
    found = described(histories, [[3, 4], [3, 4]], statistics)
    assert found["known_for"].tolist() == [[0, 0], [0, 0]]
    assert found["user_rating"][0, 0] == pytest.approx((7 + statistics.mean_rating.mean()) / 3)
    old = described(histories, [[2, 4], [1, 4]], statistics)
    assert old["known_for"][1, 0] == pytest.approx(np.log1p(8))  # user 1 is last seen on day 9, title 1 began on day 1


def test_ranks_softmax_and_zscores_of_a_tower() -> None:
    statistics = title_statistics(Histories.of_lists([[5]], N_ITEMS), titles())
    found = described(Histories.of_lists([[5]], N_ITEMS), [[4, 3, 0]], statistics)
    assert np.allclose(found["tower_rank"], -np.log1p([[0, 1, 4]]))
    mass = np.log(np.exp(np.arange(5)).sum())
    assert np.allclose(found["tower_log_softmax"], np.array([[4, 3, 0]]) - mass, atol=1e-5)
    assert found["tower_zscore"].tolist() == [[2, 1.5, 0]]
    assert found["blend"].tolist() == [[12, 9, 0]]


def test_taste_of_genres_years_and_words() -> None:
    table = titles(
        genres=[["Drama"], ["Drama"], ["Horror"], [], ["Drama", "Horror"], []],
        year=[1990, 2000, 1980, None, 1990, None],
        directors=[["Ann"], ["Ann"], ["Bob"], [], [], []],
    )
    statistics = title_statistics(Histories.of_lists([[0]], N_ITEMS), table)
    found = described(Histories.of_lists([[0], []], N_ITEMS), [[1, 2, 4, 3], [1, 2, 4, 3]], statistics)
    assert np.allclose(found["genres"][0], [1, 0, 2**-0.5, 0])
    assert np.allclose(found["newer"][0], [1, -1, 0, 0])
    assert np.allclose(found["year_distance"][0], -np.log1p([10, 10, 0, 0]))
    assert found["words"][0, 0] == pytest.approx(1, abs=1e-5)  # the same genre and director
    assert found["words"][0, 1] == 0
    assert not found["newer"][1].any()  # an empty history has no taste
    assert not found["words"][1].any()


def test_cosines_look_at_the_newest_titles() -> None:
    decoder = np.eye(N_ITEMS, dtype=np.float32)
    decoder[3] = decoder[0] + decoder[1]
    history = Histories.of_lists([[0, 1], []], N_ITEMS)
    statistics = title_statistics(history, titles())
    vectors = TitleVectors(decoder, content=decoder, aligned=decoder * 2)
    users = np.stack([decoder[2], 0 * decoder[0]])
    found = described(history, [[3, 2, 4], [3, 2, 4]], statistics, vectors, users)
    assert np.allclose(found["cosine_last"][0], [2**-0.5, 0, 0])
    assert np.allclose(found["cosine_best"][0], [2**-0.5, 0, 0])
    assert np.allclose(found["cosine_mean"][0], [2**-0.5, 0, 0])
    assert np.allclose(found["cosine_user"][0], [0, 1, 0])
    assert np.allclose(found["content_logit"][0], [0, 2, 0])
    assert found["content"][0, 0] > found["content"][0, 1]
    assert not found["cosine_mean"][1].any()


def test_without_order_there_are_no_features_of_order() -> None:
    history = Histories.of_lists([[0, 1], [2]], N_ITEMS, ordered=False)
    statistics = title_statistics(history, titles())
    vectors = TitleVectors(np.eye(N_ITEMS, dtype=np.float32), None, None)
    found = described(history, [[3, 4], [3, 4]], statistics, vectors, np.ones((2, N_ITEMS), np.float32))
    assert not {"trend", "place", "known_for", "follows_1", "precedes_1", "cosine_last"} & set(found)
    assert "cosine_liked" in found
    assert statistics.followers.nnz == 0


rows = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=N_ITEMS, unique=True), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(rows, st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_every_feature_of_every_pair_is_finite(
    lists: list[list[int]], ordered: bool, explicit: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    histories = Histories.of_lists(lists, N_ITEMS, ordered=ordered)
    if explicit:
        ratings = rng.integers(1, 6, len(histories.item_nums)).astype(np.float32)
        histories = replace(histories, ratings=ratings, positive=ratings >= 4)
    statistics = title_statistics(histories, titles())
    decoder = rng.normal(size=(N_ITEMS, 3)).astype(np.float32) * (~statistics.cold)[:, None]
    vectors = TitleVectors(decoder, rng.normal(size=(N_ITEMS, 4)).astype(np.float32), decoder)
    users = rng.normal(size=(len(lists), 3)).astype(np.float32)
    found = described(histories, [[0, 1, 2, 3, 4, -1]] * len(lists), statistics, vectors, users)
    for name, values in found.items():
        assert values.shape == (len(lists), N_ITEMS), name
        assert values.dtype == np.float32
        assert np.isfinite(values).all(), name
        assert not values[:, -1].any(), name  # no candidate there


def test_a_user_is_described_alike_alone_and_in_a_block() -> None:
    histories = Histories.of_lists([[0, 1, 2], [3, 1], []], N_ITEMS)
    statistics = title_statistics(histories, titles())
    together = described(histories, [[4, 5]] * 3, statistics)
    alone = described(histories.select(np.array([1])), [[4, 5]], statistics)
    assert all(np.allclose(together[name][1], alone[name][0], atol=1e-6) for name in alone)


def test_statistics_survive_saving(tmp_path: Path) -> None:
    histories = Histories.of_lists([[0, 1, 2], [1, 0]], N_ITEMS)
    statistics = title_statistics(histories, titles(genres=[["A"], ["A"], ["B"], [], [], []]))
    statistics.save(tmp_path / "statistics.safetensors")
    again = TitleStatistics.load(tmp_path / "statistics.safetensors")
    items = np.array([0, 1])
    candidates = np.array([[2, 1], [0, 2]], np.int32)
    assert np.array_equal(again.lift(items, candidates), statistics.lift(items, candidates))
    assert np.array_equal(again.words.toarray(), statistics.words.toarray())
    assert again.ordered is True
    assert again.explicit is False


def test_standardising_is_over_the_pairs_that_are_there() -> None:
    raw = np.array([[[1, 7], [3, 7]], [[5, 7], [1_000, 7]]], np.float32)
    there = np.array([[True, True], [True, False]])
    standard = Standardiser.fit(raw, there, ("a", "constant"))
    values = standard.apply(raw)
    assert values[there][:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert values[there][:, 0].std() == pytest.approx(1)
    assert values[1, 1, 0] == CLIP
    assert not values[:, :, 1].any()  # a constant says nothing


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([3, 20, 10**6]), st.integers(1, 60))
def test_ranks_are_how_many_unseen_titles_are_liked_better(seed: int, levels: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (4, 300)).astype(np.float32)
    histories = Histories.of_lists([rng.integers(0, 300, 40).tolist(), [], list(range(300)), [7]], 300)
    unseen = np.ones(scores.shape, np.bool_)
    unseen[histories.user_nums, histories.item_nums] = False
    found = np.take_along_axis(scores, rng.integers(0, 300, (4, k)), axis=1)
    rank, top, log_mass = _standing(scores, histories, found)
    masked = np.where(unseen, scores, -np.inf)
    assert (rank == (masked[:, None, :] > found[:, :, None]).sum(axis=2)).all()
    assert top.tolist() == [row.max() if np.isfinite(row.max()) else 0 for row in masked]
    assert np.allclose(np.exp(log_mass), np.maximum(np.exp(masked - top[:, None]).sum(axis=1), 1e-12), rtol=1e-5)
