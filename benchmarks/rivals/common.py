"""What the neural rivals share: the epoch loop with early stopping, the scorer around a network, the ring's plug-in.

All are inductive and read positive interactions only. Knows nothing of any architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from recsys.cooccurrence import counts, covered_titles, popularity_share
from recsys.evaluation import evaluate
from recsys.histories import Floats, Histories, Ints
from recsys.rivals import Family, Params, Settings
from recsys.scoring import over_all_titles
from recsys.training import EarlyStopping, check_finite, copy_of, deterministic, load_into, seed_epoch
from recsys.weights import load_weights, save_weights

Validation = tuple[Histories, Histories]
"""(what is known of some users, what they liked afterwards)"""

TUNING_ITEMS = 12_000
"""Titles that networks cover while they are tuned."""
_VALIDATION_USERS = 1_000
_STEPS_BETWEEN_LOOKS = 40
_BLOCK = 128


class RivalNetwork(nn.Module, ABC):
    """A network over titles 0 … n_titles-1, all of which somebody liked; ``__init__(n_titles, **settings)``."""

    max_epochs: ClassVar[int]
    default_epochs: ClassVar[int]
    """Epochs where nothing could be validated on."""

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimizer."""

    @abstractmethod
    def losses(self, liked: Histories, epoch: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """The losses of one epoch (from 1), a batch at a time; a step is taken after each."""

    @abstractmethod
    def logits(self, liked: Histories) -> Tensor:
        """[n_users, n_titles] scores; empty rows are allowed."""


class NeuralScorer:
    """A fitted network as a Scorer. Titles that it does not cover rank last."""

    network_class: ClassVar[Callable[..., RivalNetwork]]

    def __init__(self, settings: Params, network: RivalNetwork, item_nums: Ints, popularity: Floats) -> None:
        """Put a scorer together.

        Args:
            settings: of the network, by which it can be built again.
            network: over the titles ``item_nums``.
            item_nums: [n_covered], ascending.
            popularity: [n_items] in [0, 1].
        """
        self.settings, self.item_nums, self.popularity = settings, item_nums, popularity
        self.network = network

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.popularity)

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]; users who liked nothing that is covered get the popularity."""
        if not len(self.item_nums):
            return np.tile(self.popularity, (histories.n_users, 1))
        scores = np.empty((histories.n_users, self.n_items), np.float32)
        self.network.eval()
        for start, block in compact(histories.positives(), self.item_nums).blocks(_BLOCK):
            with torch.inference_mode():
                found = self.network.logits(block).numpy()
            scores[start : start + block.n_users] = over_all_titles(
                found, self.item_nums, self.popularity, block.lengths > 0
            )
        return scores

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json``."""
        arrays = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        extra = {"item_nums": self.item_nums, "popularity": self.popularity}
        save_weights(folder, type(self).__name__, {"settings": self.settings}, {**arrays, **extra})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ArtefactError: a file is missing or damaged, or holds another model.
        """
        held, arrays = load_weights(folder, cls.__name__)
        item_nums, popularity = arrays.pop("item_nums"), arrays.pop("popularity")
        network = cls.network_class(len(item_nums), **held["settings"])
        network.load_state_dict({name.removeprefix("network."): torch.from_numpy(v) for name, v in arrays.items()})
        return cls(held["settings"], network.requires_grad_(False), item_nums, popularity)


def compact(histories: Histories, item_nums: Ints) -> Histories:
    """The histories with only the titles ``item_nums`` (ascending), renumbered 0 … n_covered-1."""
    places = np.full(histories.n_items, -1, np.int32)
    places[item_nums] = np.arange(len(item_nums), dtype=np.int32)
    kept = histories.where(places[histories.item_nums] >= 0)
    return replace(kept, item_nums=places[kept.item_nums], n_items=len(item_nums))


def batches_of_users(liked: Histories, size: int, rng: np.random.Generator) -> Iterator[Histories]:
    """All users who liked anything, shuffled, in batches of about the same size."""
    users = rng.permutation(np.flatnonzero(liked.lengths > 0))
    for part in np.array_split(users, max(1, round(len(users) / size))):
        if len(part):
            yield liked.select(part)


def train(
    scorer_class: type[NeuralScorer],
    histories: Histories,
    params: Mapping[str, Any],
    *,
    max_items: int,
    seed: int,
    validation: Validation | None = None,
    patience: int = 6,
) -> tuple[NeuralScorer, int]:
    """Train one network on the CPU; with ``validation`` the best epoch's is kept, otherwise the last's.

    NDCG@10 is taken on at most 1,000 users about every 40 steps, and training stops ``patience`` looks after the best.

    Args:
        scorer_class: names the network.
        histories: what to fit on.
        params: the network's settings, and perhaps ``epochs``.
        max_items: most popular titles that are covered; those liked once are not, as in the ring's other models.
        seed: of weights, batches and dropout: the same seed, the same weights.
        validation: users to stop on.
        patience: looks without gain.

    Returns:
        The scorer, and the epochs that it was trained for.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    settings = {name: value for name, value in params.items() if name != "epochs"}
    liked = histories.positives()
    worth = max(1, min(max_items, int((counts(liked) > 1).sum())))
    item_nums = covered_titles(liked, worth)
    rows = compact(liked, item_nums)
    seed_epoch(seed, 0)
    network = scorer_class.network_class(len(item_nums), **settings)
    scorer = scorer_class(settings, network, item_nums, popularity_share(liked))
    if not len(item_nums):
        return scorer, 0
    with deterministic("cpu"):
        if validation is None:
            epochs = int(params.get("epochs", network.default_epochs))
            optimizer = network.optimizer()
            for epoch in range(1, epochs + 1):
                run_epoch(network, optimizer, rows, epoch, seed)
        else:
            epochs = _stop_early(scorer, rows, validation, seed, patience)
    network.requires_grad_(False)
    return scorer, epochs


def run_epoch(
    network: RivalNetwork, optimizer: torch.optim.Optimizer, rows: Histories, epoch: int, seed: int
) -> tuple[float, int]:
    """One epoch over the rows: the mean loss, and the steps taken."""
    network.train()
    total, steps = 0.0, 0
    for loss in network.losses(rows, epoch, seed_epoch(seed, epoch)):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, steps = total + loss.item(), steps + 1
    mean = total / max(1, steps)
    rate = float(optimizer.param_groups[0]["lr"])
    check_finite(mean, trainer=type(network).__name__, epoch=epoch, learning_rate=rate)
    return mean, steps


def _stop_early(scorer: NeuralScorer, rows: Histories, validation: Validation, seed: int, patience: int) -> int:
    """Train and leave the best epoch's weights in the network; gives that epoch."""
    network, optimizer = scorer.network, scorer.network.optimizer()
    stopping, best, since = EarlyStopping(patience), copy_of(network), 0
    looks = 0
    known, wanted = _some(validation)
    for epoch in range(1, network.max_epochs + 1):
        since += run_epoch(network, optimizer, rows, epoch, seed)[1]
        if since < _STEPS_BETWEEN_LOOKS and epoch < network.max_epochs:
            continue
        looks, since = looks + 1, 0
        if stopping.update(looks, evaluate(scorer, known, wanted, ks=(10,)).metrics["ndcg_at_10"]):
            best, best_epoch = copy_of(network), epoch
        if stopping.stop(looks):
            break
    load_into(network, best)
    return best_epoch


def _some(validation: Validation) -> Validation:
    """At most 1,000 of the users who have a target, evenly spaced."""
    known, wanted = validation
    users = np.flatnonzero(wanted.lengths > 0)
    users = users[np.unique(np.linspace(0, len(users) - 1, min(len(users), _VALIDATION_USERS)).astype(np.int64))]
    return known.select(users), wanted.select(users)


def neural_family(
    scorer_class: type[NeuralScorer], settings: tuple[Params, ...], *, needs_order: bool = False
) -> Family:
    """The ring's plug-in of a network: every setting trained with early stopping, then refitted for that many epochs.

    Args:
        scorer_class: names the network.
        settings: the grid, the paper's own first; it also stands where nothing can be validated on.
        needs_order: not to be run without timestamps.
    """

    def fit(histories: Histories, params: Params, max_items: int, seed: int) -> NeuralScorer:
        return train(scorer_class, histories, params or settings[0], max_items=max_items, seed=seed)[0]

    def grid(histories: Histories, seed: int, validation: Validation) -> Settings:
        for params in settings:
            scorer, epochs = train(
                scorer_class, histories, params, max_items=TUNING_ITEMS, seed=seed, validation=validation
            )
            yield {**params, "epochs": epochs}, scorer

    return Family(fit, scorer_class.load, grid, needs_order=needs_order, validated=True)
