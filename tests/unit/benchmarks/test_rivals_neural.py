"""What every neural rival promises: it learns, forgets nothing when saved, and the same seed gives the same weights."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from benchmarks.rivals import gru4rec, mult_vae, neumf, recvae, sasrec
from benchmarks.rivals.common import compact, neural_family, run_epoch, train
from benchmarks.rivals.neumf import NeuMfScorer
from recsys.histories import Histories
from recsys.rivals import Family, tune
from recsys.scoring import Scorer
from recsys.training import seed_epoch

GROUPS, PER_GROUP, RING = 3, 10, 24
COLD, ODD = GROUPS * PER_GROUP, GROUPS * PER_GROUP + 1
"""Titles without a positive: one never met, one that was only disliked."""
SMALL = {
    mult_vae: {"hidden_size": 48, "embedding_size": 16, "anneal_epochs": 20, "epochs": 25},
    recvae: {"hidden_size": 48, "embedding_size": 16, "learning_rate": 2e-3, "epochs": 8},
    neumf: {"factors": 8, "learning_rate": 5e-3, "epochs": 10},
    sasrec: {"embedding_size": 32, "learning_rate": 3e-3, "dropout": 0.1, "max_length": 12, "epochs": 10},
    gru4rec: {"embedding_size": 32, "hidden_size": 32, "max_length": 12, "learning_rate": 5e-3, "epochs": 12},
}
BAGS, ORDERED = (mult_vae, recvae, neumf), (sasrec, gru4rec)
modules = pytest.mark.parametrize("module", list(SMALL), ids=lambda module: module.__name__.rpartition(".")[2])


def scorer_of(module):
    name = next(name for name in vars(module) if name.endswith("Scorer") and name != "NeuralScorer")
    return vars(module)[name]


def co_watched(n_users=120, seed=0):
    """Users watch six titles of their group; group 0 has fewest, so that popularity alone misleads."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(GROUPS, n_users, p=[0.2, 0.3, 0.5])
    rows = [group * PER_GROUP + rng.choice(PER_GROUP, 6, replace=False) for group in groups]
    histories = Histories.of_lists([[*row, ODD] for row in rows], GROUPS * PER_GROUP + 2)
    positive = histories.item_nums != ODD
    return Histories(**{**vars(histories), "positive": positive})


def ring_walks(n_users=120, seed=0):
    """Users walk round a ring of titles, one step at a time."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(RING) + np.arange(rng.integers(5, 16))) % RING for _ in range(n_users)]
    return Histories.of_lists(rows, RING + 1)


def data_for(module):
    return co_watched() if module in BAGS else ring_walks()


@pytest.fixture(scope="module")
def fitted():
    return {module: train_small(module, data_for(module)) for module in SMALL}


def train_small(module, histories, seed=3) -> Scorer:
    return module.FAMILY.fit(histories, dict(SMALL[module]), 12_000, seed)


@modules
def test_is_a_family_with_six_settings_and_a_scorer(module, fitted):
    assert isinstance(module.FAMILY, Family)
    assert module.FAMILY.validated
    assert module.FAMILY.needs_order == (module in ORDERED)
    assert len(module.SETTINGS) == 6
    assert isinstance(fitted[module], Scorer)


@pytest.mark.parametrize("module", BAGS)
def test_finds_the_group_that_was_watched_together(module, fitted):
    for group in range(GROUPS):
        own = group * PER_GROUP + np.arange(PER_GROUP)
        scores = fitted[module].scores(Histories.of_lists([own[:4]], GROUPS * PER_GROUP + 2))[0]
        scores[own[:4]] = -np.inf
        assert set(np.argsort(-scores)[:6]) == set(own[4:]), f"group {group}"


@pytest.mark.parametrize("module", ORDERED)
def test_lists_what_follows_first(module, fitted):
    rows = [[(at - 2) % RING, (at - 1) % RING, at] for at in range(RING)]
    best = fitted[module].scores(Histories.of_lists(rows, RING + 1)).argmax(axis=1)
    np.testing.assert_array_equal(best, (np.arange(RING) + 1) % RING)


@modules
def test_the_loss_falls(module):
    rows = compact(data_for(module).positives(), np.arange(RING, dtype=np.int32))
    seed_epoch(0, 0)
    settings = {name: value for name, value in SMALL[module].items() if name not in ("epochs", "anneal_epochs")}
    network = scorer_of(module).network_class(rows.n_items, **settings)
    optimizer = network.optimizer()
    losses = [run_epoch(network, optimizer, rows, epoch, 0)[0] for epoch in range(1, 7)]
    assert losses[-1] < 0.97 * losses[0]
    assert losses[-1] < losses[2] < losses[0]


@modules
def test_saved_and_loaded_it_scores_exactly_the_same(module, fitted, tmp_path):
    fitted[module].save(tmp_path / "model")
    users = data_for(module).select(slice(0, 20))
    loaded = module.FAMILY.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.scores(users), fitted[module].scores(users))
    loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@modules
def test_the_same_seed_gives_the_same_weights_and_another_does_not(module, fitted):
    histories = data_for(module)
    again, other = train_small(module, histories), train_small(module, histories, seed=4)
    users = histories.select(slice(0, 20))
    np.testing.assert_array_equal(again.scores(users), fitted[module].scores(users))
    assert not np.array_equal(other.scores(users), fitted[module].scores(users))


@modules
def test_users_do_not_influence_each_other_and_empty_ones_get_the_popularity(module, fitted):
    histories = data_for(module)
    rows = Histories.of_lists([[], [1, 2, 3], [histories.n_items - 1], list(range(20))], histories.n_items)
    scores = fitted[module].scores(rows)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    for empty in (0, 2):  # the last title was not liked by anyone: it tells nothing
        np.testing.assert_array_equal(scores[empty], fitted[module].popularity)
    alone = np.concatenate([fitted[module].scores(rows.select(np.array([user]))) for user in range(4)])
    np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-5)
    assert fitted[module].scores(rows.select(slice(0, 0))).shape == (0, histories.n_items)
    assert np.isfinite(fitted[module].scores(rows.unordered())).all()


@pytest.mark.parametrize("module", BAGS)
def test_what_nobody_liked_ranks_last_and_is_not_read(module, fitted):
    scores = fitted[module].scores(Histories.of_lists([[0, 1], [0, ODD, 1]], GROUPS * PER_GROUP + 2))
    assert scores[:, :COLD].min() > scores[:, COLD:].max()
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize("module", [neumf, sasrec])
def test_every_setting_says_its_best_epoch_and_is_refitted_for_as_many(module):
    settings = {name: value for name, value in SMALL[module].items() if name != "epochs"}
    histories = data_for(module).select(slice(0, 60))
    known, wanted = histories.where(histories.ages > 0), histories.last(1)
    family = neural_family(scorer_of(module), (settings, {}))
    (params, scorer), *_ = islice(family.grid(known, 0, validation=(known, wanted)), 1)
    assert params == {**settings, "epochs": params["epochs"]}
    again = family.fit(known, params, 12_000, 0)
    np.testing.assert_array_equal(again.scores(known), scorer.scores(known))


def test_is_tuned_by_the_ring():
    histories = ring_walks(60)
    known, wanted = histories.where(histories.ages > 0), histories.last(1)
    tuned = tune(mult_vae.FAMILY, known, wanted, budget=1)
    assert tuned.params["epochs"] >= 1
    assert tuned.validation["ndcg_at_10"] == tuned.tried[0][1] > 0.1


def test_fits_what_it_cannot_learn_from():
    for rows in ([[]], [[0]], [[0], [1]], [[0, 1]]):
        histories = Histories.of_lists(rows, 3)
        for module, params in SMALL.items():
            scorer = module.FAMILY.fit(histories, {**params, "epochs": 1}, 10, 0)
            assert np.isfinite(scorer.scores(Histories.of_lists([[0], []], 3))).all(), module


def test_covers_only_so_many_titles():
    scorer, epochs = train(NeuMfScorer, co_watched(), {"epochs": 1}, max_items=5, seed=0)
    assert epochs == 1
    assert len(scorer.item_nums) == 5
