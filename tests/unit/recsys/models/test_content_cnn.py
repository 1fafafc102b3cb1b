"""The content CNN: it places titles that nobody rated, sees what a bag of tokens cannot, and repeats itself exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys import columns
from recsys.checkpoints import Checkpoints
from recsys.data.text import Documents, Vocabulary
from recsys.errors import ArtefactError, TrainingError
from recsys.histories import Histories
from recsys.models import content_training
from recsys.models.content_cnn import ContentCnn, encode_with
from recsys.models.content_training import ContentTraining, StopTitles, train_content_cnn
from recsys.scoring import Scorer
from recsys.tracker import NullTracker

N_ITEMS, N_COLD = 96, 16


def titles_of(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        {"item_id": f"{n:03}", "genres": [], "cast": [], "directors": [], "tags": [], "regions": [], **row}
        for n, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=columns.TITLES)


class World:
    """Two camps of users. The plots of the first one's titles say "north east", of the second's "east north", amid
    words that mean nothing: no sum over words can tell them apart. The last titles are cold."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.camps = np.arange(N_ITEMS) % 2
        filler = ["river", "mountain", "valley", "harbour", "forest", "island"]
        rows: list[dict[str, Any]] = []
        for camp in self.camps:
            words = [str(word) for word in rng.permutation(filler)[:3]]
            words.insert(int(rng.integers(0, 4)), ("north east", "east north")[camp])
            rows.append({"plot": " ".join(words)})
        self.titles = titles_of(rows)
        warm = np.arange(N_ITEMS - N_COLD)
        sides = [warm[self.camps[: len(warm)] == camp] for camp in (0, 1)]
        self.side_of_user = np.arange(120) % 2
        likes = [rng.permutation(sides[side])[: rng.integers(6, 14)].tolist() for side in self.side_of_user]
        self.histories = Histories.of_lists(likes, N_ITEMS, ordered=False)
        self.cold = np.arange(N_ITEMS - N_COLD, N_ITEMS, dtype=np.int32)
        self.liked = Histories.of_lists(
            [self.cold[self.camps[self.cold] == side].tolist() for side in self.side_of_user], N_ITEMS, ordered=False
        )
        self.vocabulary = Vocabulary.train(self.titles, vocabulary_size=400, max_tokens=16)
        self.documents = self.vocabulary.encode(self.titles)

    def train(self, **changes: Any) -> ContentTraining:
        settings: dict[str, Any] = {
            "stop": StopTitles(self.cold, self.liked),
            "output_size": 8,
            "embedding_size": 16,
            "channels": 16,
            "epochs": 4,
            "batch_size": 64,
            "titles_per_step": 64,
            "learning_rate": 1e-2,
            "weight_decay": 1e-2,
            "token_dropout": 0.0,
            "dropout": 0.1,
            "patience": 10,
            "device": "cpu",
            "precision": "float32",
            "seed": 0,
            "tracker": NullTracker(),
        }
        return train_content_cnn(self.vocabulary, self.documents, self.histories, **{**settings, **changes})

    def right(self, scores: np.ndarray) -> float:  # type: ignore[type-arg]
        """How often a cold title of a user's own camp is above one of the other camp."""
        cold, camps = scores[:, self.cold], self.camps[self.cold]
        return float(
            np.mean([
                (row[camps == side][:, None] > row[camps != side][None, :]).mean()
                for row, side in zip(cold, self.side_of_user, strict=True)
            ])
        )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def trained(world: World) -> ContentTraining:
    return world.train(epochs=12)


def test_convolutions_see_what_a_bag_of_tokens_cannot(world: World, trained: ContentTraining) -> None:
    model = trained.model
    bag = world.right(model.ridge_scores(world.documents, world.histories))
    network = world.right(model.scores(world.histories))
    assert bag < 0.7
    assert network > 0.9
    assert trained.epochs > 0
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]
    assert trained.curve[-1]["ndcg_at_100"] > trained.ridge["ndcg_at_100"]


def test_it_is_a_scorer_of_every_title(world: World, trained: ContentTraining) -> None:
    model = trained.model
    assert isinstance(model, Scorer)
    assert model.n_items == N_ITEMS
    scores = model.scores(world.histories)
    assert scores.shape == (120, N_ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert model.title_vectors.shape == (N_ITEMS, 8)
    np.testing.assert_allclose(
        scores, model.user_vectors(world.histories) @ model.title_vectors.T + model.title_bias, atol=1e-5
    )


def test_an_empty_history_gets_what_text_says_is_popular(world: World, trained: ContentTraining) -> None:
    scores = trained.model.scores(Histories.of_lists([[], [0]], N_ITEMS))
    np.testing.assert_array_equal(scores[0], trained.model.title_bias)


def test_a_new_users_cold_history_counts(world: World, trained: ContentTraining) -> None:
    """Somebody who liked nothing but titles that nobody else rated still has a taste."""
    assert (trained.model.user_vectors(Histories.of_lists([[int(world.cold[0])]], N_ITEMS)) != 0).any()


def test_disliked_titles_are_not_part_of_a_user(world: World, trained: ContentTraining) -> None:
    liked = Histories.of_lists([[1, 5]], N_ITEMS)
    mixed = Histories.of_lists([[1, 2, 5]], N_ITEMS)
    mixed = Histories(mixed.indptr, mixed.item_nums, mixed.ratings, np.array([True, False, True]), None, N_ITEMS)
    np.testing.assert_array_equal(trained.model.scores(mixed), trained.model.scores(liked))


def test_new_titles_are_encoded_beside_the_old(world: World, trained: ContentTraining) -> None:
    new = titles_of([{"plot": "river north east"}, {"plot": "river east north"}, {}])
    vectors = trained.model.encode(new)
    assert vectors.shape == (3, 8)
    assert np.isfinite(vectors).all()
    scores = trained.model.user_vectors(world.histories) @ vectors[:2].T
    first_camp = scores[world.side_of_user == 0].mean(axis=0)
    assert first_camp[0] > first_camp[1]


def test_cold_titles_are_encoded_as_they_were(world: World, trained: ContentTraining) -> None:
    again = trained.model.encode(world.titles)
    np.testing.assert_allclose(again[world.cold], trained.model.title_vectors[world.cold], atol=1e-5)


def test_the_length_of_others_documents_does_not_matter(world: World, trained: ContentTraining) -> None:
    model, documents = trained.model, world.documents
    wide = Documents(
        np.pad(documents.tokens, ((0, 0), (0, 9))), np.pad(documents.fields, ((0, 0), (0, 9))), documents.n_tokens
    )
    np.testing.assert_allclose(model.encode_documents(wide), model.encode_documents(documents), atol=1e-5)
    one = model.encode_documents(documents.select(np.array([3])))
    np.testing.assert_allclose(one[0], model.encode_documents(documents)[3], atol=1e-5)


def test_similar_titles_are_of_the_same_kind(world: World, trained: ContentTraining) -> None:
    agree = []
    for item in range(N_ITEMS):
        items, cosines = trained.model.similar(item, 5)
        assert item not in items
        assert (np.diff(cosines) <= 0).all()
        agree.append((world.camps[items] == world.camps[item]).mean())
    assert np.mean(agree) > 0.8
    assert len(trained.model.similar(0, 1_000)[0]) == N_ITEMS - 1


def test_saved_and_loaded_it_is_the_same(world: World, trained: ContentTraining, tmp_path: Path) -> None:
    trained.model.save(tmp_path / "model")
    loaded = ContentCnn.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.scores(world.histories), trained.model.scores(world.histories))
    np.testing.assert_array_equal(loaded.encode(world.titles), trained.model.encode(world.titles))
    assert loaded.settings == trained.model.settings
    loaded.save(tmp_path / "again")
    for path in sorted((tmp_path / "model").iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_damaged_weights_are_named(world: World, trained: ContentTraining, tmp_path: Path) -> None:
    trained.model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ArtefactError, match="ContentCnn"):
        ContentCnn.load(tmp_path)


def test_the_same_seed_gives_the_same_model_whatever_came_before(world: World) -> None:
    first = world.train()
    torch.manual_seed(99)
    torch.rand(7)
    second, other = world.train(), world.train(seed=1)
    np.testing.assert_array_equal(first.model.scores(world.histories), second.model.scores(world.histories))
    assert first.curve == second.curve
    assert first.curve != other.curve


class KilledAt:
    """A tracker that dies when an epoch has ended."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def params(self, values: object) -> None:
        pass

    def epoch(self, number: int, total: int, metrics: object) -> None:
        if number == self._epoch:
            raise InterruptedError

    def note(self, text: str) -> None:
        pass


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_training_goes_on_to_the_same_model(world: World, tmp_path: Path, epoch: int) -> None:
    whole = world.train()
    with pytest.raises(InterruptedError):
        world.train(tracker=KilledAt(epoch), checkpoints=Checkpoints(tmp_path, "it"))
    resumed = world.train(checkpoints=Checkpoints(tmp_path, "it"))
    np.testing.assert_array_equal(resumed.model.scores(world.histories), whole.model.scores(world.histories))
    assert resumed.curve == whole.curve
    assert resumed.ridge == whole.ridge
    assert resumed.epochs == whole.epochs


def test_checkpoints_of_another_training_are_left_alone(world: World, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        world.train(tracker=KilledAt(3), seed=5, checkpoints=Checkpoints(tmp_path, "other"))
    resumed = world.train(checkpoints=Checkpoints(tmp_path, "it"))
    assert resumed.curve == world.train().curve


def test_training_stops_when_the_titles_held_out_speak_against_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Titles of the other camp, as the wanted ones: the more is learned, the worse."""
    monkeypatch.setattr(content_training, "_NOISE", 0.0)
    wrong = Histories.of_lists(
        [world.cold[world.camps[world.cold] != side].tolist() for side in world.side_of_user], N_ITEMS, ordered=False
    )
    training = world.train(stop=StopTitles(world.cold, wrong), epochs=20, patience=2)
    assert len(training.curve) < 20
    assert len(training.curve) - training.epochs == 2


def test_without_titles_to_stop_on_all_epochs_are_run(world: World) -> None:
    training = world.train(stop=None, epochs=2)
    assert training.epochs == 2
    assert [set(figures) for figures in training.curve] == [{"loss"}] * 2


def test_a_tower_of_the_same_space_can_be_compared(world: World, trained: ContentTraining) -> None:
    later = world.train(seed=3, epochs=1, stop=None, like=trained.model.history_rows)
    first, second = trained.model.history_rows[:-N_COLD], later.model.history_rows[:-N_COLD]
    assert np.linalg.norm(first - second) < 0.2 * np.linalg.norm(first)


def test_a_loss_that_is_no_number_stops_it(world: World) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        world.train(learning_rate=1e30)


def test_without_two_likes_of_anybody_there_is_nothing_to_learn(world: World) -> None:
    alone = Histories.of_lists([[0], [1], []], N_ITEMS)
    settings = {"output_size": 8, "embedding_size": 8, "channels": 8, "epochs": 1, "batch_size": 8}
    rest = {"titles_per_step": 8, "learning_rate": 1e-3, "weight_decay": 0.0, "token_dropout": 0.0, "dropout": 0.0}
    with pytest.raises(TrainingError, match="liked two titles"):
        train_content_cnn(
            world.vocabulary, world.documents, alone, stop=None, patience=1, device="cpu", precision="float32",
            seed=0, tracker=NullTracker(), **settings, **rest,  # type: ignore[arg-type]
        )  # fmt: skip


def test_the_network_begins_as_the_ridge(world: World, trained: ContentTraining) -> None:
    network = content_training.new_network(trained.model.settings, world.vocabulary.n_tokens, seed=0)
    base = np.random.default_rng(0).standard_normal((N_ITEMS, 9)).astype(np.float32)
    np.testing.assert_allclose(encode_with(network, world.documents, base, device="cpu"), base, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_on_cuda(world: World) -> None:
    training = world.train(device="cuda:0", precision="bfloat16")
    assert np.isfinite(training.model.scores(world.histories)).all()
