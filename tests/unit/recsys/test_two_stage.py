"""The two stages together: a scorer like any other, candidates on top, other copies, ways to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns
from recsys.config import AutoencoderConfig, NcfConfig
from recsys.errors import ArtefactError, TrainingError
from recsys.families import family_of, load_scorer
from recsys.histories import Histories
from recsys.models.autoencoder_training import resolve as autoencoder_settings
from recsys.models.autoencoder_training import train_user_autoencoder
from recsys.models.linear import Ease, OrderAwareRidge
from recsys.scoring import Scorer
from recsys.tracker import NullTracker
from recsys.two_stage import TwoStage, later, resolve, train_two_stage

CONFIG = NcfConfig(candidates=20, epochs=3, hidden_size=8, batch_size=64, seeds=1)


def titles(n: int) -> pa.Table:
    known = {
        columns.ITEM_ID: [f"m{number}" for number in range(n)],
        columns.GENRES: [["A", "B"][i % 2 :] for i in range(n)],
    }
    return pa.table(
        {f.name: pa.array(known[f.name], f.type) if f.name in known else pa.nulls(n, f.type) for f in columns.TITLES},
        schema=columns.TITLES,
    )


def towers(histories: Histories, *, vectors: bool = True) -> dict[str, Scorer]:
    found: dict[str, Scorer] = {"ease": Ease.fit(histories, l2=5)}
    if histories.ordered:
        found["order_ridge"] = OrderAwareRidge.fit(histories, l2=5)
    if vectors:
        config = AutoencoderConfig(hidden_size=16, embedding_size=8, epochs=6, batch_size=64, sequence_channel=False)
        settings = autoencoder_settings(
            config,
            n_users=histories.n_users,
            n_items=histories.n_items,
            n_interactions=len(histories.item_nums),
            ordered=histories.ordered,
        )
        training = train_user_autoencoder(
            histories, settings=settings, validation=None, device="cpu", seed=0, tracker=NullTracker()
        )
        found["user_autoencoder"] = training.model
    return found


def windows(histories: Histories) -> tuple[Histories, Histories]:
    """All but the newest entry of each row, and that one."""
    newest = histories.ages == 0
    return histories.where(~newest), histories.where(newest)


def fit(histories: Histories, seed: int, *, vectors: bool = True) -> TwoStage:
    known, wanted = windows(histories)
    table = titles(histories.n_items)
    learned = train_two_stage(
        towers(known, vectors=vectors), known, wanted, table, CONFIG, seed=seed, tracker=NullTracker()
    )
    return learned.over(towers(histories, vectors=vectors), histories, table)


def forced(model: TwoStage) -> TwoStage:
    """The same with its networks in, whatever validation said."""
    return replace(model, ncf=replace(model.ncf, share=1.0))


def test_it_is_a_scorer_with_vectors_and_order(check_scorer: Callable[..., Scorer]) -> None:
    check_scorer(lambda h, seed: forced(fit(h, seed)), uses_order=True, cold_last=False)


def test_it_is_a_scorer_without_vectors_and_order(check_scorer: Callable[..., Scorer]) -> None:
    check_scorer(lambda h, seed: forced(fit(h, seed, vectors=False)), ordered=False, learns=False, cold_last=False)


@pytest.fixture(scope="module")
def service() -> Histories:
    rng = np.random.default_rng(0)
    return Histories.of_lists([((rng.integers(30) + np.arange(8) * 2) % 30).tolist() for _ in range(60)], 31)


@pytest.fixture(scope="module")
def model(service: Histories) -> TwoStage:
    return fit(service, 0)


def test_candidates_stand_above_all_others_and_others_in_the_order_of_the_blend(
    model: TwoStage, service: Histories
) -> None:
    model = forced(replace(model, copy=replace(model.copy, n_candidates=5)))
    users = service.select(slice(0, 6))
    scores, described = model.scores(users), model.copy.describe(users)
    for user in range(6):
        chosen = described.items[user]
        others = np.setdiff1d(np.arange(service.n_items), chosen)
        assert scores[user, chosen].min() > scores[user, others].max()
        assert (np.argsort(scores[user, others]) == np.argsort(described.blend[user, others])).all()
        seen = users.item_nums[users.row(user)]
        assert not np.isin(chosen, seen).any()


def test_where_the_networks_have_no_share_the_blend_ranks(model: TwoStage, service: Histories) -> None:
    still = replace(model, ncf=replace(model.ncf, share=0.0))
    users = service.select(slice(0, 4))
    assert np.array_equal(still.scores(users), model.copy.blend.scores(users))


def test_another_copy_has_its_own_statistics_and_the_same_network(model: TwoStage, service: Histories) -> None:
    known, _ = windows(service)
    other = model.over(towers(known), known, titles(service.n_items))
    assert other.ncf is model.ncf
    assert other.copy.blend.weights == model.copy.blend.weights
    assert other.copy.statistics.log_popularity.sum() < model.copy.statistics.log_popularity.sum()
    assert not np.array_equal(other.standard.mean, model.standard.mean)


def test_towers_of_other_names_are_refused(model: TwoStage, service: Histories) -> None:
    model = forced(model)
    blend = replace(model.copy.blend, towers={"ease": model.copy.blend.towers["ease"]}, weights={"ease": 1.0})
    broken = replace(model, copy=replace(model.copy, blend=blend))
    with pytest.raises(ArtefactError, match="features"):
        broken.scores(service.select(slice(0, 2)))


def test_it_is_opened_by_its_family_and_so_is_its_first_stage(
    model: TwoStage, service: Histories, tmp_path: Path
) -> None:
    model.save(tmp_path)
    assert family_of(model) == "ncf"
    users = service.select(slice(0, 3))
    assert np.array_equal(load_scorer("ncf", tmp_path).scores(users), model.scores(users))
    assert np.array_equal(load_scorer("blend", tmp_path).scores(users), model.copy.blend.scores(users))


def test_the_report_says_what_was_chosen_and_measured(model: TwoStage) -> None:
    report = model.report()
    assert set(report["features"]) >= {"blend", "ease_zscore", "follows_1", "log_popularity", "cosine_user"}
    assert len(report["curve"]) == CONFIG.epochs
    assert report["figures"]["validation_blend_ndcg_at_10"] <= report["figures"]["validation_ncf_ndcg_at_10"]
    assert report["settings"]["candidates"] == 20
    assert report["settings"]["weight_ease"] == model.copy.blend.weights["ease"]


def test_settings_adapt_to_order_and_size() -> None:
    config = NcfConfig()
    assert resolve(config, ordered=True, n_users=10_000).learning_rate == 2e-3
    assert resolve(config, ordered=False, n_users=10_000).weight_decay == 0.05
    assert resolve(config, ordered=True, n_users=10_000).networks == 2
    small = resolve(config, ordered=True, n_users=500)
    assert (small.networks, small.hidden_size, small.dropout) == (5, 32, 0.4)
    assert resolve(NcfConfig(dropout=0.0, learning_rate=1.0), ordered=True, n_users=10).dropout == 0.0


def test_later_histories_have_taken_up_the_first_of_the_targets() -> None:
    known = Histories.of_lists([[0, 1], [2], []], 12)
    wanted = Histories.of_lists([[5, 3, 4, 9], [6], [7, 8, 10]], 12)
    histories, targets = later(known, wanted, 0.5, seed=0)
    assert [histories.item_nums[histories.row(user)].tolist() for user in range(3)] == [[0, 1, 5, 3], [2], [7]]
    assert [targets.item_nums[targets.row(user)].tolist() for user in range(3)] == [[4, 9], [6], [8, 10]]
    assert histories.ordered


def test_without_order_a_lot_decides_what_is_taken_up() -> None:
    known = Histories.of_lists([[0]] * 200, 12, ordered=False)
    wanted = Histories.of_lists([[5, 3, 4, 9]] * 200, 12, ordered=False)
    histories, targets = later(known, wanted, 0.5, seed=0)
    assert (targets.lengths == 2).all()
    assert (histories.lengths == 3).all()
    counts = np.bincount(targets.item_nums, minlength=12)[[3, 4, 5, 9]]
    assert (counts > 60).all()
    together = histories.matrix() + targets.matrix()
    assert (together.toarray() == (known.matrix() + wanted.matrix()).toarray()).all()


def test_without_targets_it_says_what_to_do(service: Histories) -> None:
    known, _ = windows(service)
    nothing = known.where(np.zeros(len(known.item_nums), np.bool_))
    with pytest.raises(TrainingError, match="validation_fraction"):
        train_two_stage(towers(known, vectors=False), known, nothing, titles(31), CONFIG, seed=0, tracker=NullTracker())
