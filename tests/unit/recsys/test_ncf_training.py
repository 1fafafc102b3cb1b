"""Training of the second stage: what it learns, when it steps back, resuming, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.checkpoints import Checkpoints
from recsys.errors import TrainingError
from recsys.models.ncf import Ncf, NcfSettings
from recsys.ncf_training import best_temperature, binary_loss, one_cycle, softmax_loss, train_ncf
from recsys.pairs import Lesson, Pairs, TitleTables, ndcg_at_10
from recsys.tracker import NullTracker

N_USERS, K, N_ITEMS, SIZE = 120, 16, 40, 4
SETTINGS = NcfSettings(hidden_size=8, epochs=8, batch_size=16, learning_rate=1e-2, networks=2)


def lesson(rule: str, seed: int = 0) -> tuple[Lesson, TitleTables]:
    """Two of 16 candidates are wanted: by a feature, by the vectors' product, by the blend, or by lot."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(N_ITEMS)[:K] for _ in range(N_USERS)]).astype(np.int32)
    features = rng.normal(size=(N_USERS, K, 3)).astype(np.float32)
    blend = rng.normal(size=(N_USERS, K)).astype(np.float32)
    users = rng.normal(size=(N_USERS, SIZE)).astype(np.float32)
    decoder = rng.normal(size=(N_ITEMS, SIZE)).astype(np.float32)
    product = np.einsum("ud,ukd->uk", users * np.array([3, -3, 0, 0], np.float32), decoder[items])
    score = {"feature": features[:, :, 1], "vectors": product, "blend": blend, "lot": rng.normal(size=blend.shape)}[
        rule
    ]
    wanted = np.argsort(np.argsort(-score, axis=1), axis=1) < 2
    pairs = Pairs(features, blend, items, users)
    return Lesson(pairs, wanted, np.full(N_USERS, 2)), TitleTables(decoder, np.zeros_like(decoder))


def trained(rule: str, settings: NcfSettings = SETTINGS, seed: int = 0, checkpoints: Checkpoints | None = None) -> Ncf:
    given, tables = lesson(rule)
    names = ("a", "b", "c")
    return train_ncf([given], tables, settings, names, seed=seed, tracker=NullTracker(), checkpoints=checkpoints)


@pytest.mark.parametrize("rule", ["feature", "vectors"])
def test_it_learns_what_the_blend_does_not_know(rule: str) -> None:
    model = trained(rule, replace(SETTINGS, epochs=25) if rule == "vectors" else SETTINGS)
    assert model.share >= 0.7
    assert model.report["ncf_ndcg_at_10"] > model.report["blend_ndcg_at_10"] + 0.2
    fresh, tables = lesson(rule, seed=0)
    ndcg = ndcg_at_10(model.logits(fresh.pairs, tables), fresh.wanted, fresh.n_targets).mean()
    assert ndcg > 0.8


def test_a_part_left_out_is_not_there_and_the_others_learn_on(tmp_path: Path) -> None:
    model = trained("feature", replace(SETTINGS, without=("vectors", "mlp")))
    names = {name for name, _ in model.networks[0].named_parameters()}
    assert names == {"blend_weight", "linear", "gmf"}
    assert model.report["ncf_ndcg_at_10"] > model.report["blend_ndcg_at_10"] + 0.2
    blind = trained("vectors", replace(SETTINGS, epochs=25, without=("vectors",)))
    assert blind.report["gain"] < trained("vectors", replace(SETTINGS, epochs=25)).report["gain"] / 2
    model.save(tmp_path)
    given, tables = lesson("feature")
    assert np.array_equal(Ncf.load(tmp_path).logits(given.pairs, tables), model.logits(given.pairs, tables))


def test_the_binary_loss_has_the_best_intercept_and_is_learned_from() -> None:
    logits, wanted = torch.tensor([[0.0, 0.0, 0.0, 0.0, -1e9]]), torch.tensor([[True, False, False, False, False]])
    expected = -np.log(0.25) - 3 * np.log(0.75)
    assert float(binary_loss(logits, wanted)) == pytest.approx(expected, abs=1e-4)
    assert float(binary_loss(logits + 7, wanted)) == pytest.approx(expected, abs=1e-4)
    model = trained("feature", replace(SETTINGS, loss="bce"))
    assert model.report["ncf_ndcg_at_10"] > model.report["blend_ndcg_at_10"] + 0.2


@pytest.mark.parametrize("rule", ["blend", "lot"])
def test_where_there_is_nothing_to_learn_it_does_not_rank_worse_than_the_blend(rule: str) -> None:
    model = trained(rule)
    given, tables = lesson(rule, seed=1)
    found = ndcg_at_10(model.logits(given.pairs, tables), given.wanted, given.n_targets)
    alone = ndcg_at_10(given.pairs.blend, given.wanted, given.n_targets)
    assert found.mean() >= alone.mean() - 0.03
    if rule == "blend":
        assert model.share == 0
        assert np.allclose(model.logits(given.pairs, tables), model.temperature * given.pairs.blend)


def test_the_temperature_is_that_of_the_least_loss() -> None:
    given, _ = lesson("blend")
    best = best_temperature(given)
    blend, wanted = torch.from_numpy(given.pairs.blend), torch.from_numpy(given.wanted)
    losses = [float(softmax_loss(blend * t, wanted)) for t in (best * 0.8, best, best * 1.25)]
    assert losses[1] <= min(losses)
    hot = replace(given, pairs=replace(given.pairs, blend=given.pairs.blend * 10))
    assert best_temperature(hot) < best


def test_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, np.log(2.0), -1e9], [1.0, 2.0, 3.0, 4.0]])
    wanted = torch.tensor([[True, False, True, False], [False] * 4])
    expected = (np.log(4) + np.log(2)) / np.sqrt(2)  # probabilities 1/4 and 1/2; the second user wanted nothing
    assert float(softmax_loss(logits, wanted)) == pytest.approx(expected)


def test_one_cycle_goes_up_and_down() -> None:
    assert one_cycle(0) == pytest.approx(0.04)
    assert one_cycle(0.3) == pytest.approx(1)
    assert one_cycle(1) == pytest.approx(0, abs=1e-9)
    assert 0.04 < one_cycle(0.15) < 1


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    first, second, other = (trained("feature", replace(SETTINGS, epochs=2), seed=seed) for seed in (3, 3, 4))
    states = [[n.state_dict() for n in model.networks] for model in (first, second, other)]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(*states[:2], strict=True) for name in a)
    assert not torch.equal(states[0][0]["linear"], states[2][0]["linear"])


class KilledError(Exception):
    """The process died."""


class Killing(NullTracker):
    """Ends the training when an epoch is reached."""

    def __init__(self, at: int) -> None:
        self.at = at

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        if number == self.at:
            raise KilledError


@pytest.mark.parametrize("at", [2, 4, 6])
def test_resumed_it_comes_to_the_same_as_in_one_go(tmp_path: Path, at: int) -> None:
    settings = replace(SETTINGS, epochs=4)
    whole = trained("feature", settings)
    given, tables = lesson("feature")
    with pytest.raises(KilledError):
        train_ncf(
            [given],
            tables,
            settings,
            ("a", "b", "c"),
            seed=0,
            tracker=Killing(at),
            checkpoints=Checkpoints(tmp_path, "x"),
        )
    heard: list[int] = []

    class Listening(NullTracker):
        def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
            assert total == 8
            heard.append(number)

    resumed = train_ncf(
        [given], tables, settings, ("a", "b", "c"), seed=0, tracker=Listening(), checkpoints=Checkpoints(tmp_path, "x")
    )
    assert heard == list(range(at, 9))  # what was checkpointed is not done again
    assert resumed.report == whole.report
    for one, other in zip(whole.networks, resumed.networks, strict=True):
        theirs = other.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2)
    trained("lot", settings, checkpoints=Checkpoints(tmp_path, "one"))
    whole = trained("feature", settings)
    assert trained("feature", settings, checkpoints=Checkpoints(tmp_path, "other")).report == whole.report


def test_a_loss_that_is_no_number_stops_it() -> None:
    given, tables = lesson("feature")
    spoilt = replace(given, pairs=replace(given.pairs, features=np.full_like(given.pairs.features, np.nan)))
    with pytest.raises(TrainingError, match="diverged"):
        train_ncf([spoilt], tables, SETTINGS, ("a", "b", "c"), seed=0, tracker=NullTracker())


def test_without_anything_wanted_there_is_nothing_to_learn() -> None:
    given, tables = lesson("feature")
    with pytest.raises(TrainingError, match="nothing to learn"):
        train_ncf(
            [replace(given, wanted=np.zeros_like(given.wanted))],
            tables,
            SETTINGS,
            ("a", "b", "c"),
            seed=0,
            tracker=NullTracker(),
        )


def test_ndcg_of_candidates_by_hand() -> None:
    scores = np.array([[3, 2, 1, -np.inf], [1, 2, 3, 4]], np.float32)
    wanted = np.array([[False, True, False, False], [True, False, False, True]])
    ndcg = ndcg_at_10(scores, wanted, np.array([1, 12]))
    assert ndcg[0] == pytest.approx(1 / np.log2(3))
    ideal = (1 / np.log2(np.arange(2, 12))).sum()  # twelve were wanted, a list of ten can hold ten
    assert ndcg[1] == pytest.approx((1 + 1 / np.log2(5)) / ideal)
