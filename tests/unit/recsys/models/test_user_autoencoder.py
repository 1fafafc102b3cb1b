from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.checkpoints import Checkpoints
from recsys.config import AutoencoderConfig
from recsys.distributed import ALONE
from recsys.errors import ArtefactError, TrainingError
from recsys.histories import Histories
from recsys.models import autoencoder_training
from recsys.models.autoencoder_network import kl_divergence, masked_cross_entropy
from recsys.models.autoencoder_training import (
    FULL_SOFTMAX_ITEMS,
    AutoencoderSettings,
    AutoencoderTraining,
    refit_settings,
    resolve,
    train_user_autoencoder,
)
from recsys.models.user_autoencoder import UserAutoencoder
from recsys.scoring import Scorer
from recsys.topk import mask_seen
from recsys.tracker import NullTracker
from recsys.training import copy_of

SMALL = AutoencoderSettings(
    hidden_size=32,
    embedding_size=16,
    epochs=25,
    batch_size=16,
    learning_rate=1e-2,
    kl_weight=0.02,
    input_dropout=0.1,
    window=3,
    patience=5,
    sequence_channel=True,
)

PLANTED = replace(SMALL, epochs=30, batch_size=32, input_dropout=0.0)


def train(histories: Histories, **options: Any) -> AutoencoderTraining:
    given: dict[str, Any] = {
        "settings": SMALL,
        "validation": None,
        "device": "cpu",
        "seed": 0,
        "tracker": NullTracker(),
        **options,
    }
    return train_user_autoencoder(histories, **given)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def serials() -> Histories:
    """60 users who each watch a stretch of one of three serials, in order."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        serial, start = rng.integers(3), rng.integers(0, 3)
        rows.append([int(serial * 8 + episode) for episode in range(start, start + rng.integers(4, 7))])
    return Histories.of_lists(rows, 25)  # title 24 is watched by nobody


@pytest.mark.parametrize("ordered", [True, False])
def test_it_keeps_what_every_scorer_promises(check_scorer: Callable[..., Scorer], ordered: bool) -> None:
    def fit(histories: Histories, seed: int) -> Scorer:
        return train(histories, settings=PLANTED, seed=seed).model

    check_scorer(fit, ordered=ordered, uses_order=ordered)


def test_it_learns_one_batch_by_heart(serials: Histories) -> None:
    few = serials.select(np.arange(8))
    by_heart = replace(SMALL, epochs=150, batch_size=8, kl_weight=0.0, input_dropout=0.0)
    losses = [epoch["loss"] for epoch in train(few, settings=by_heart).curve]
    assert losses[-1] < 0.35 * losses[0]


def test_what_comes_next_ranks_first(serials: Histories) -> None:
    model = train(serials).model
    visitors = Histories.of_lists([[1, 2], [10, 11], [18, 19]], 25)
    scores = model.scores(visitors)
    mask_seen(scores, visitors)
    assert scores.argmax(1).tolist() == [3, 12, 20]


LARGE = {"title_width": 16, "sampled_titles": 64}
"""As above :data:`recsys.models.autoencoder_training.FULL_SOFTMAX_ITEMS`."""


def test_short_rows_and_a_sampled_softmax_learn_what_comes_next_too(serials: Histories) -> None:
    model = train(serials, settings=replace(SMALL, **LARGE)).model
    assert model.network.first.shape == (serials.n_items, 16)
    visitors = Histories.of_lists([[1, 2], [10, 11], [18, 19]], 25)
    scores = model.scores(visitors)
    mask_seen(scores, visitors)
    assert scores.argmax(1).tolist() == [3, 12, 20]


def test_short_rows_survive_saving_and_a_warm_start(serials: Histories, tmp_path: Path) -> None:
    settings = replace(SMALL, **LARGE, epochs=2)
    model = train(serials, settings=settings).model
    model.save(tmp_path)
    loaded = UserAutoencoder.load(tmp_path)
    assert np.array_equal(loaded.scores(serials), model.scores(serials))
    again = train(serials, settings=replace(settings, title_width=0), warm_start=loaded).model
    assert again.shape == model.shape


@pytest.mark.parametrize("sampled", [0, 64])
def test_a_batch_in_parts_has_the_loss_of_the_whole(serials: Histories, sampled: int) -> None:
    settings = replace(SMALL, sampled_titles=sampled, title_width=16 if sampled else 0)
    run = autoencoder_training._Run(
        serials, np.arange(serials.n_users), settings, "cpu", "float32", 0, NullTracker(), None, ALONE
    )
    (batch,) = run._batches(np.arange(16), np.random.default_rng(0))
    run.network.eval()
    whole = run._missed(run.network.encode(*run.shape.tensors(batch.inputs, "cpu"))[0], batch)
    for users in (slice(0, 5), slice(5, 16)):
        part = batch.part(users)
        missed = run._missed(run.network.encode(*run.shape.tensors(part.inputs, "cpu"))[0], part)
        torch.testing.assert_close(missed, whole[users], rtol=1e-4, atol=1e-4)


def test_scores_are_vectors_times_titles(serials: Histories) -> None:
    model = train(serials, settings=replace(SMALL, epochs=2)).model
    vectors = model.encode(serials)
    assert vectors.shape == (60, model.embedding_size)
    assert vectors.dtype == np.float32
    expected = vectors @ model.title_vectors.T + model.title_bias
    np.testing.assert_allclose(model.scores(serials)[:, :24], expected[:, :24], rtol=1e-4, atol=1e-4)
    assert not model.title_vectors[24].any()
    assert model.learned.tolist() == [True] * 24 + [False]


def test_dislikes_are_neither_read_nor_recommended(serials: Histories) -> None:
    model = train(serials, settings=replace(SMALL, epochs=2)).model
    liked = Histories.of_lists([[1, 2]], 25)
    disliked = Histories.of_lists([[1, 9, 2, 17]], 25)
    disliked = replace(disliked, positive=np.array([True, False, True, False]))
    np.testing.assert_array_equal(model.encode(liked), model.encode(disliked))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(serials: Histories, tmp_path: Path) -> None:
    def saved(seed: int, name: str) -> bytes:
        train(serials, settings=replace(SMALL, epochs=3), seed=seed).model.save(tmp_path / name)
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = saved(1, "a")
    torch.manual_seed(99)
    assert saved(1, "b") == first
    assert saved(2, "c") != first


class KilledError(Exception):
    pass


class KillAfter(NullTracker):
    """Stops the training during an epoch's report, before that epoch's checkpoint is written."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, number: int, total: int, metrics: Any) -> None:
        if number == self.last:
            raise KilledError


@pytest.mark.parametrize("killed_in", [1, 3])
def test_a_killed_training_comes_to_the_very_same_bytes(serials: Histories, tmp_path: Path, killed_in: int) -> None:
    validation = (serials.last(4), Histories.of_lists([[row % 25] for row in range(60)], 25))
    options = {"settings": replace(SMALL, epochs=9, patience=3), "validation": validation}
    straight = train(serials, **options)
    folder = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        train(serials, **options, tracker=KillAfter(killed_in), checkpoints=Checkpoints(folder, "x"))
    resumed = train(serials, **options, checkpoints=Checkpoints(folder, "x"))
    assert resumed.curve == straight.curve
    assert resumed.best_epoch == straight.best_epoch
    straight.model.save(tmp_path / "straight")
    resumed.model.save(tmp_path / "resumed")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_early_stopping_keeps_the_best_epoch(serials: Histories) -> None:
    heard: list[tuple[int, int]] = []

    class Epochs(NullTracker):
        def epoch(self, number: int, total: int, metrics: Any) -> None:
            heard.append((number, total))

    hopeless = Histories.of_lists([[24]] * 60, 25)  # cannot be learned: never better than in the first epoch
    training = train(serials, settings=replace(SMALL, patience=2), validation=(serials, hopeless), tracker=Epochs())
    assert training.best_epoch == 1
    assert heard == [(1, 25), (2, 25), (3, 25)]
    figures = [epoch["ndcg_at_10"] for epoch in training.curve]
    assert figures == [0, 0, 0]


def test_validation_without_anything_positive_is_done_without_and_said(serials: Histories) -> None:
    notes: list[str] = []

    class Notes(NullTracker):
        def note(self, text: str) -> None:
            notes.append(text)

    nothing = serials.where(np.zeros(len(serials.item_nums), np.bool_))
    training = train(serials, settings=replace(SMALL, epochs=2), validation=(serials, nothing), tracker=Notes())
    assert training.best_epoch == 2
    assert "nothing positive to validate" in notes[0]


def test_validation_ndcg_is_that_of_the_kept_model(serials: Histories) -> None:
    reading, wanted = serials.last(3), Histories.of_lists([[row % 24] for row in range(60)], 25)
    training = train(serials, settings=replace(SMALL, epochs=4), validation=(reading, wanted))
    scores = training.model.scores(reading)
    mask_seen(scores, reading)
    gains = []
    for user in range(60):
        rank = int((scores[user] > scores[user, user % 24]).sum())
        seen = user % 24 in reading.item_nums[reading.row(user)]
        gains.append(1 / np.log2(rank + 2) if rank < 10 and not seen else 0)
    assert training.curve[training.best_epoch - 1]["ndcg_at_10"] == pytest.approx(np.mean(gains), abs=1e-5)


def test_a_warm_start_keeps_the_space_of_vectors(serials: Histories) -> None:
    first = train(serials)
    settings = refit_settings(SMALL, first.best_epoch)
    assert settings.epochs < SMALL.epochs
    warm = train(serials, settings=settings, warm_start=first.model).model
    cold = train(serials, seed=1).model

    def alignment(other: UserAutoencoder) -> float:
        a, b = first.model.title_vectors[:24], other.title_vectors[:24]
        return float(np.mean((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))

    assert alignment(warm) > 0.8
    assert abs(alignment(cold)) < 0.4


def test_a_warm_start_over_other_titles_is_refused(serials: Histories) -> None:
    model = train(serials, settings=replace(SMALL, epochs=1)).model
    with pytest.raises(ValueError, match="warm start over 25 titles, histories over 30"):
        train(Histories.of_lists([[1, 2]], 30), warm_start=model)


def test_a_title_that_becomes_known_is_learned_by_the_refit(serials: Histories) -> None:
    first = train(serials).model
    rows = [serials.item_nums[serials.row(user)].tolist() for user in range(60)]
    more = Histories.of_lists([*rows, *[[1, 2, 24]] * 20], 25)
    second = train(more, settings=refit_settings(SMALL, 25), warm_start=first).model
    visitor = Histories.of_lists([[1, 2]], 25)
    scores = second.scores(visitor)
    mask_seen(scores, visitor)
    assert 24 in np.argsort(-scores[0])[:2]


def test_a_rate_that_diverges_stops_with_a_remedy(serials: Histories) -> None:
    with pytest.raises(TrainingError, match=r"user autoencoder diverged: its loss is .*lower learning_rate"):
        train(serials, settings=replace(SMALL, learning_rate=1e30))


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(TrainingError, match="no user has two positive interactions"):
        train(Histories.of_lists([[1], [], [2]], 3))


def test_memory_that_runs_out_makes_smaller_pieces_of_the_same_step(
    serials: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recsys.models.autoencoder_training as module

    plain, sizes, notes = module.masked_cross_entropy, [], []

    def scarce(logits: torch.Tensor, *places: torch.Tensor) -> torch.Tensor:
        if len(logits) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(logits))
        return plain(logits, *places)

    class Notes(NullTracker):
        def note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setattr(module, "masked_cross_entropy", scarce)
    training = train(serials, tracker=Notes())
    assert notes == ["out of memory: the user autoencoder goes on with 8 users at a time"]
    assert max(sizes) == 8
    assert training.curve[-1]["loss"] < 0.7 * training.curve[0]["loss"]


def test_bfloat16_autocast_trains(serials: Histories) -> None:
    curve = train(serials, precision="bfloat16").curve
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_damaged_model_is_refused_by_name(serials: Histories, tmp_path: Path, name: str) -> None:
    train(serials, settings=replace(SMALL, epochs=1)).model.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="UserAutoencoder model cannot be read"):
        UserAutoencoder.load(tmp_path)


def test_the_loss_and_its_gradient_are_those_of_log_softmax() -> None:
    torch.manual_seed(0)
    raw = torch.randn(3, 5)
    out, wanted = ([0, 0, 2], [1, 2, 4]), ([0, 0, 1, 2], [0, 3, 2, 1])
    weights = torch.tensor([0.5, 2.0, 1.0])
    ours = raw.clone().requires_grad_()
    loss = masked_cross_entropy(ours * 1.0, *(torch.tensor(values) for values in (*out, *wanted)))
    (weights * loss).sum().backward()

    theirs = raw.clone().requires_grad_()
    masked = theirs.index_put(tuple(torch.tensor(values) for values in out), torch.tensor(-torch.inf))
    picked = -torch.log_softmax(masked, 1)[wanted]
    expected = torch.zeros(3).index_add(0, torch.tensor(wanted[0]), picked)
    (weights * expected).sum().backward()
    torch.testing.assert_close(loss.detach(), expected.detach())
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_users_without_targets_have_no_loss() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    logits = torch.randn(2, 4, requires_grad=True)
    loss = masked_cross_entropy(logits * 1.0, none, none, none, none)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert logits.grad is not None
    assert not logits.grad.any()


def test_kl_of_the_standard_normal_is_nought_and_of_a_shift_half_its_square() -> None:
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert kl_divergence(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).item() == pytest.approx(12.5)


def test_settings_adapt_to_size_and_order_and_the_configuration_wins() -> None:
    def settled(n: int, *, ordered: bool = True, **given: Any) -> AutoencoderSettings:
        return resolve(AutoencoderConfig(**given), n_users=n // 100, n_items=1000, n_interactions=n, ordered=ordered)

    small, middle, large, huge = (settled(n) for n in (30_000, 300_000, 1_000_000, 20_000_000))
    assert (small.hidden_size, small.embedding_size) == (256, 128)
    assert (large.hidden_size, large.embedding_size) == (512, 200)
    assert huge.epochs < large.epochs < small.epochs
    assert huge.batch_size > large.batch_size
    assert (huge.sampled_titles, huge.title_width) == (0, 0)
    assert small.batch_size < middle.batch_size < large.batch_size
    assert small.input_dropout > middle.input_dropout > large.input_dropout
    assert small.kl_weight > middle.kl_weight > large.kl_weight
    assert settled(30_000).sequence_channel
    assert not settled(30_000, ordered=False).sequence_channel
    assert settled(30_000, ordered=False).kl_weight != small.kl_weight
    given = settled(30_000, hidden_size=40, epochs=3, kl_weight=0.0, input_dropout=0.0, batch_size=7, learning_rate=0.5)
    assert (given.hidden_size, given.epochs, given.kl_weight, given.input_dropout) == (40, 3, 0.0, 0.0)
    assert (given.batch_size, given.learning_rate) == (7, 0.5)


@pytest.mark.parametrize(("n_items", "sampled"), [(FULL_SOFTMAX_ITEMS, 0), (FULL_SOFTMAX_ITEMS + 1, 4096)])
def test_large_catalogues_are_sampled_unless_told_otherwise(n_items: int, sampled: int) -> None:
    size: dict[str, Any] = {"n_users": 900, "n_items": n_items, "n_interactions": 10_000, "ordered": True}
    settings = resolve(AutoencoderConfig(), **size)
    assert (settings.sampled_titles, settings.title_width > 0) == (sampled, sampled > 0)
    told = resolve(AutoencoderConfig(sampled_titles=9, title_width=0), **size)
    assert (told.sampled_titles, told.title_width) == (9, 0)


def test_the_network_keeps_its_parameters_names(serials: Histories) -> None:
    """A saved model of today opens tomorrow: renaming a parameter needs a new schema version."""
    names = set(copy_of(train(serials, settings=replace(SMALL, epochs=1)).model.network))
    assert {"first", "decoder", "decoder_bias", "moments.weight", "sequence.items.weight"} <= names
