"""How the second stage is trained: on a window that the towers have not seen (stacking), a softmax over candidates.

Every network has held-out users of its own; on these the epoch and the networks' share against the blend are chosen,
so that the second stage never ranks worse than the first. Knows nothing of where candidates come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.checkpoints import Checkpoints
from recsys.devices import Precision, autocast, to_device
from recsys.errors import TrainingError
from recsys.histories import Bools, Floats, Longs
from recsys.models.ncf import Ncf, NcfNetwork, NcfSettings, PairTensors, new_network, predict
from recsys.pairs import Lesson, TitleTables, joined, ndcg_at_10
from recsys.tracker import Tracker
from recsys.training import (
    check_finite,
    copy_of,
    deterministic,
    load_into,
    load_optimizer,
    optimizer_tensors,
    seed_epoch,
    set_learning_rate,
)

TEMPERATURES = tuple(float(t) for t in np.geomspace(0.1, 5, 30))
"""Logits per unit of the blend that are tried for the start."""
MAX_GRADIENT = 5.0
"""Norm that gradients are cut to."""
SHARES = (0.3, 0.5, 0.7, 0.85, 1.0)
"""Shares of the network against the blend that are tried on held-out users."""
MIN_GAIN_ERRORS = 0.5
"""Standard errors (paired, over held-out users) that the network must gain; else its share is 0: the blend ranks."""
SMALL = 2_500
"""Users below which every fifth is held out in turn; above, every tenth for the first networks."""


def train_ncf(
    lessons: Sequence[Lesson],
    tables: TitleTables,
    settings: NcfSettings,
    feature_names: tuple[str, ...],
    *,
    seed: int,
    device: str = "cpu",
    precision: Precision = "float32",
    tracker: Tracker,
    checkpoints: Checkpoints | None = None,
) -> Ncf:
    """Train the networks, each without its own held-out users, and validate their share on those.

    In every epoch a user is learned from once, in one of the lessons by lot.

    Loss: -n^-½ Σ log softmax over a user's candidates, summed over the n wanted among them. AdamW, one cycle. The
    epoch kept is the one at which the held-out users of all networks together are ranked best.

    Args:
        lessons: pairs of users who wanted something, and what they wanted; each of the same users. The first is the
            one that is measured.
        tables: vectors by title number, in the space of the lessons' user vectors.
        settings: see :class:`NcfSettings`.
        feature_names: of the lessons' features, kept with the model.
        seed: of initialisation, held-out users, order and dropout.
        device: cpu or cuda:N.
        precision: of the forward passes.
        tracker: hears epochs, numbered over all networks.
        checkpoints: where to go on from, and to save to after epochs; exact: the result is that of one go.

    Raises:
        TrainingError: a loss is not finite, or no user wanted any of their candidates.
    """
    lesson = lessons[0]
    learnable = np.stack([each.wanted.any(axis=1) for each in lessons])
    if not learnable.any():
        raise TrainingError(
            "no candidate of any user was wanted in the window after, so the second stage has nothing to learn",
            remedy="set a larger [split] validation_fraction or [ncf] candidates",
        )
    temperature = best_temperature(lesson)
    tensors = PairTensors.of(joined([each.pairs for each in lessons]), tables, temperature, device)
    wanted = torch.from_numpy(np.concatenate([each.wanted for each in lessons]))
    training = _Training(lesson, learnable, tensors, wanted, settings, seed, precision, tracker)
    state = _State.resume(checkpoints)
    with deterministic(device), torch.random.fork_rng():
        for number in range(settings.networks):
            training.run(number, state, checkpoints)
    epoch, share, report = _choose(lesson, training, state, temperature)
    networks = tuple(training.network(number, state.weights[number][epoch]) for number in range(settings.networks))
    return Ncf(networks, settings, feature_names, tables.decoder.shape[1], temperature, share, report)


def best_temperature(lesson: Lesson) -> float:
    """The temperature at which the blend alone has the least loss."""
    wanted, there = torch.from_numpy(lesson.wanted), torch.from_numpy(lesson.pairs.there)
    blend = torch.from_numpy(lesson.pairs.blend)
    losses = [float(softmax_loss((blend * t).masked_fill(~there, -1e9), wanted)) for t in TEMPERATURES]
    return TEMPERATURES[int(np.argmin(losses))]


def softmax_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean over users of -n^-½ Σ log softmax over the n wanted candidates. Users without any are left out.

    Args:
        logits: [n_users, k], hugely negative where there is no candidate.
        wanted: [n_users, k] booleans.
    """
    count = wanted.sum(dim=1)
    gained = (logits.log_softmax(dim=1) * wanted).sum(dim=1)
    return -(gained / count.clamp(min=1).sqrt())[count > 0].mean()


def binary_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean over users of the binary cross-entropy of their candidates, as in He et al. (2017).

    The intercept, which no ranking depends on, is the best one for the batch: it is not learned.

    Args:
        logits: [n_users, k], hugely negative where there is no candidate.
        wanted: [n_users, k] booleans.
    """
    low, high = logits.new_tensor(-30.0), logits.new_tensor(30.0)
    with torch.no_grad():
        for _ in range(30):  # the mean chance grows with the intercept: halve the interval around the share wanted
            middle = (low + high) / 2
            too_low = torch.sigmoid(logits + middle).sum() < wanted.sum()
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    each = nn.functional.binary_cross_entropy_with_logits(logits + low, wanted.to(logits.dtype), reduction="none")
    return each.sum(dim=1).mean()


LOSSES = {"softmax": softmax_loss, "bce": binary_loss}


@dataclass
class _State:
    """What training has come to: by network, its weights and its held-out users' logits after every epoch."""

    weights: list[list[dict[str, Tensor]]]
    logits: list[list[Tensor]]
    losses: list[list[float]]
    optimizer: dict[str, Tensor]
    """Of the network being trained."""

    def begin(self, number: int) -> int:
        """Make room for a network; how many of its epochs are done."""
        if len(self.losses) <= number:
            self.weights.append([])
            self.logits.append([])
            self.losses.append([])
        return len(self.losses[number])

    def add(
        self, number: int, network: NcfNetwork, optimizer: torch.optim.Optimizer, logits: Floats, loss: float
    ) -> None:
        """Keep what an epoch gave."""
        self.weights[number].append({name: value.cpu() for name, value in copy_of(network).items()})
        self.logits[number].append(torch.from_numpy(logits))
        self.losses[number].append(loss)
        self.optimizer = optimizer_tensors(optimizer)

    @classmethod
    def resume(cls, checkpoints: Checkpoints | None) -> _State:
        found = checkpoints.load() if checkpoints else None
        if found is None:
            return cls([], [], [], {})
        losses: list[list[float]] = found.state["losses"]
        weights = [
            [_under(found.tensors, f"weights.{number}.{epoch}.") for epoch in range(len(own))]
            for number, own in enumerate(losses)
        ]
        logits = [[found.tensors[f"logits.{n}.{e}"] for e in range(len(own))] for n, own in enumerate(losses)]
        return cls(weights, logits, losses, _under(found.tensors, "optimizer."))

    def save(self, checkpoints: Checkpoints) -> None:
        tensors = {f"optimizer.{name}": tensor for name, tensor in self.optimizer.items()}
        for number, epochs in enumerate(self.weights):
            for epoch, weights in enumerate(epochs):
                tensors |= {f"weights.{number}.{epoch}.{name}": tensor for name, tensor in weights.items()}
                tensors[f"logits.{number}.{epoch}"] = self.logits[number][epoch]
        checkpoints.save(tensors, {"losses": self.losses})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class _Training:
    lesson: Lesson
    learnable: Bools
    """[n_lessons, n_users]"""
    tensors: PairTensors
    """Rows of all lessons, one lesson after the other."""
    wanted: Tensor
    settings: NcfSettings
    seed: int
    precision: Precision
    tracker: Tracker

    def held_out(self, number: int) -> NDArray[np.int64]:
        """The users that a network does not learn from."""
        n_users = len(self.lesson.wanted)
        folds = max(5 if n_users < SMALL else 10, self.settings.networks)
        return np.flatnonzero(np.random.default_rng([self.seed, 77]).permutation(n_users) % folds == number)

    def network(self, number: int, weights: Mapping[str, Tensor] | None = None) -> NcfNetwork:
        """One network, at its start or with given weights."""
        features, vectors = self.tensors.features.shape[2], self.tensors.users.shape[1]
        network = new_network(self.settings, features, vectors, seed=self.seed * 1_000 + number)
        if weights is not None:
            network.load_state_dict(weights)
            return network.eval()
        return network.to(self.tensors.device)

    def run(self, number: int, state: _State, checkpoints: Checkpoints | None) -> None:
        """Train one network through its epochs, or those that are left."""
        settings = self.settings
        held_out = self.held_out(number)
        learning = np.setdiff1d(np.flatnonzero(self.learnable.any(axis=0)), held_out)
        done = state.begin(number)
        network = self.network(number)
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )
        if 0 < done < settings.epochs:
            load_into(network, state.weights[number][-1])
            load_optimizer(optimizer, state.optimizer)
        for epoch in range(done, settings.epochs):
            loss = self._epoch(network, optimizer, learning, number, epoch)
            logits = predict(network, self.tensors, held_out)
            state.add(number, network, optimizer, logits, loss)
            figure = float(self.ndcg(logits, held_out).mean())
            self.tracker.epoch(
                number * settings.epochs + epoch + 1,
                settings.networks * settings.epochs,
                {"loss": loss, "ndcg_at_10": figure},
            )
            if checkpoints and (checkpoints.due() or epoch + 1 == settings.epochs):
                state.save(checkpoints)

    def _epoch(
        self, network: NcfNetwork, optimizer: torch.optim.Optimizer, learning: Longs, number: int, epoch: int
    ) -> float:
        rng = seed_epoch(self.seed * 1_000 + number, epoch)
        network.train()
        lots = np.where(self.learnable, rng.random(self.learnable.shape), -1).argmax(axis=0)  # whose turn it is
        rows = (lots * len(lots) + np.arange(len(lots)))[rng.permutation(learning)]
        batches = np.array_split(rows, max(1, len(learning) // self.settings.batch_size))
        losses = []
        for step, batch in enumerate(batches):
            place = (epoch * len(batches) + step) / (self.settings.epochs * len(batches))
            set_learning_rate(optimizer, self.settings.learning_rate * one_cycle(place))
            users = torch.from_numpy(batch)
            with autocast(self.tensors.device, self.precision):
                logits = self.tensors.logits(network, users)
            loss = LOSSES[self.settings.loss](logits, to_device(self.wanted[users], self.tensors.device))
            check_finite(
                float(loss.detach()), trainer="NCF", epoch=epoch + 1, learning_rate=self.settings.learning_rate
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
            optimizer.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def ndcg(self, logits: Floats, users: NDArray[np.integer]) -> Floats:
        """NDCG@10 of some users."""
        return ndcg_at_10(logits, self.lesson.wanted[users], self.lesson.n_targets[users])


def one_cycle(place: float) -> float:
    """Share of the peak learning rate at a place in 0…1: cosine up over the first 30 %, cosine down over the rest."""
    start, end = (0.04, 1.0) if place < 0.3 else (1.0, 0.0)
    share = place / 0.3 if place < 0.3 else (place - 0.3) / 0.7
    return end + (start - end) * (1 + float(np.cos(np.pi * share))) / 2


def _choose(
    lesson: Lesson, training: _Training, state: _State, temperature: float
) -> tuple[int, float, dict[str, Any]]:
    """The epoch and the share of the networks, by NDCG@10 of every network's held-out users; and the figures."""
    users = np.concatenate([training.held_out(number) for number in range(training.settings.networks)])
    blend = np.where(lesson.pairs.there, temperature * lesson.pairs.blend, -1e9).astype(np.float32)[users]
    epochs = [torch.cat([own[e] for own in state.logits]).numpy() for e in range(training.settings.epochs)]
    curve = [float(training.ndcg(logits, users).mean()) for logits in epochs]
    smooth = np.convolve(np.pad(curve, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    epoch = int(np.argmax(smooth))
    alone = training.ndcg(blend, users)
    gains = [training.ndcg(share * epochs[epoch] + (1 - share) * blend, users) - alone for share in SHARES]
    best = int(np.argmax([gain.mean() for gain in gains]))
    error = float(gains[best].std() / np.sqrt(len(users)))
    share = SHARES[best] if gains[best].mean() > MIN_GAIN_ERRORS * error else 0.0
    figure = float(alone.mean() + (gains[best].mean() if share else 0.0))
    report = {
        "users": len(users),
        "blend_ndcg_at_10": float(alone.mean()),
        "ncf_ndcg_at_10": figure,
        "gain": float(gains[best].mean()),
        "gain_standard_error": error,
        "epoch": epoch + 1,
        "curve": curve,
        "losses": [float(np.mean(own)) for own in zip(*state.losses, strict=True)],
    }
    return epoch, share, report
