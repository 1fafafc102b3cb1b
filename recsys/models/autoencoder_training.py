"""Training of the user autoencoder: settings that adapt to the data, the epoch loop, warm-started refits.

Early stopping is on NDCG@10 of users whose next interactions are known; checkpoints let a killed training go on and
come to the very same weights. Knows nothing of artefacts or of the other models.

Up to :data:`FULL_SOFTMAX_ITEMS` titles the softmax is over all of them: a step holds one matrix [users of a piece,
n_items], and when that does not fit, pieces shrink. Beyond, it is over a sample (:mod:`recsys.models.sampled_softmax`).
Batches are drawn by a thread while the one before is learned from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.ahead import ahead
from recsys.checkpoints import Checkpoints
from recsys.config import AutoencoderConfig
from recsys.cooccurrence import popularity_share
from recsys.devices import Pieces, Precision, autocast, to_device
from recsys.distributed import ALONE, Group
from recsys.errors import TrainingError
from recsys.histories import Histories, Longs
from recsys.models.autoencoder_network import kl_divergence, masked_cross_entropy
from recsys.models.autoencoder_validation import validator
from recsys.models.sampled_softmax import Sample, Sampler, sampled_cross_entropy
from recsys.models.user_autoencoder import AutoencoderShape, UserAutoencoder
from recsys.tracker import Tracker
from recsys.training import (
    EarlyStopping,
    Ema,
    check_finite,
    copy_of,
    deterministic,
    load_into,
    load_optimizer,
    optimizer_tensors,
    seed_epoch,
    set_learning_rate,
    warmup_then_decay,
)
from recsys.user_batches import Rows, Targets, UserInputs, held_out, next_window, with_ties_drawn

TRAINER = "user autoencoder"
_TAUS = (20.0, 3.0)
_SEQUENCE_LENGTH = 50
_MEAN_CUT = 0.575  # of the prefixes that training reads
_KL_ANNEALED = 0.3  # share of the steps
_WARM_UP_EPOCHS = 2
_MOMENTS = (0.9, 0.99)
_CLIP = 5.0
_LEAST_EPOCHS = 4
VISITS = 1_000_000
"""Most times that a user is learned from, over all users and epochs (but at least four epochs)."""
FULL_SOFTMAX_ITEMS = 10_000
"""Up to so many titles all are scored in every step: there a sample costs about as much (docs/benchmarks-scale.md)."""
_REFIT_LENGTH = 0.5  # of the epochs of the first fit: what a fit from nothing reaches in all of them, or more


@dataclass(frozen=True)
class AutoencoderSettings:
    """Every hyper-parameter, resolved. Units as in :class:`recsys.config.AutoencoderConfig`."""

    hidden_size: int
    embedding_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    kl_weight: float
    input_dropout: float
    window: int
    """Least number of titles to predict (ordered)."""
    patience: int
    sequence_channel: bool
    title_width: int = 0
    """Of a title's row in the first layer (0: a full row for every channel)."""
    sampled_titles: int = 0
    """Draws of titles that a step is scored against (0: all titles)."""
    weight_decay: float = 1e-2


def resolve(
    config: AutoencoderConfig, *, n_users: int, n_items: int, n_interactions: int, ordered: bool
) -> AutoencoderSettings:
    """The settings for data of this size, where the configuration leaves them open.

    Small is up to 100,000 positive interactions, large from a million; between them settings move with the logarithm.
    Small data wants small batches, which give enough steps, and stronger dropout and KL. Many users are gone through
    fewer times, :data:`VISITS` in all, a larger batch at a time. Large catalogues have short rows in the first layer
    and are scored against samples.
    """
    size = min(1.0, max(0.0, math.log10(max(n_interactions, 1)) - 5))
    beyond = max(1.0, n_interactions / 1e6)

    def between(small: float, large: float) -> float:
        return float(small * (large / small) ** size)

    epochs = config.epochs or min(round(between(60, 45)), max(_LEAST_EPOCHS, VISITS // max(n_users, 1)))
    many = n_items > FULL_SOFTMAX_ITEMS
    return AutoencoderSettings(
        hidden_size=config.hidden_size or 64 * round(between(256, 512) / 64),
        embedding_size=config.embedding_size or 8 * round(between(128, 200) / 8),
        epochs=epochs,
        batch_size=config.batch_size or max(8, min(round(between(64, 256) * min(4.0, beyond**0.85)), n_users // 8)),
        learning_rate=config.learning_rate or between(3e-3, 2.5e-3),
        kl_weight=between(0.06, 0.02) if config.kl_weight is None and ordered
        else between(0.1, 0.05) if config.kl_weight is None else config.kl_weight,
        input_dropout=between(0.3, 0.2) if config.input_dropout is None else config.input_dropout,
        window=round(between(5, 10)),
        patience=config.patience or max(1, math.ceil(epochs / 4)),
        sequence_channel=config.sequence_channel and ordered,
        title_width=(128 if many else 0) if config.title_width is None else config.title_width,
        sampled_titles=(4096 if many else 0) if config.sampled_titles is None else config.sampled_titles,
    )  # fmt: skip


@dataclass(frozen=True)
class AutoencoderTraining:
    """A trained autoencoder and how it came about."""

    model: UserAutoencoder
    settings: AutoencoderSettings
    best_epoch: int
    """Epoch whose weights were kept (the last one without validation)."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """Per epoch: loss, and ndcg_at_10 where there is validation."""


def train_user_autoencoder(
    histories: Histories,
    *,
    settings: AutoencoderSettings,
    validation: tuple[Histories, Histories] | None,
    device: str,
    seed: int,
    tracker: Tracker,
    precision: Precision = "float32",
    warm_start: UserAutoencoder | None = None,
    checkpoints: Checkpoints | None = None,
    group: Group = ALONE,
) -> AutoencoderTraining:
    """Fit the autoencoder.

    Args:
        histories: all interactions to learn from; positives are input and targets, the rest counts as seen.
        settings: from :func:`resolve`.
        validation: (histories, targets) of the same users each: what is read, and what should be found. The epoch
            that finds most is kept, and training stops when it lies too far back. None: the last epoch is kept.
        device: cpu or cuda:N.
        seed: of weights and draws.
        tracker: hears settings and epochs.
        precision: of the forward passes.
        warm_start: begin from these weights, keeping the space of its vectors; its shape wins over the settings.
        checkpoints: where to keep the state between epochs, and to go on from. None: nowhere.
        group: of the processes that train it together; each comes to the same model, the leader writes checkpoints.

    Raises:
        TrainingError: no user has two positives, or the loss is not finite, or memory does not suffice for a user.
        ValueError: ``warm_start`` is over other titles.
    """
    users = np.flatnonzero(histories.positives().lengths >= 2)
    if not len(users):
        raise TrainingError(
            f"the {TRAINER} has nothing to learn from: no user has two positive interactions",
            remedy="lower [ratings] positive_from, or bring more data",
        )
    tracker.params(asdict(settings))
    if settings.sampled_titles:
        sample = f"samples of {settings.sampled_titles:,} draws from {histories.n_items:,} titles"
        tracker.note(f"sampled softmax: the {TRAINER} is scored against {sample}, with corrected logits")
    with deterministic(device):
        run = _Run(histories, users, settings, device, precision, seed, tracker, warm_start, group)
        return run.train(validation, checkpoints)


@dataclass(frozen=True)
class _Batch:
    """A batch of users with what was drawn for them."""

    inputs: UserInputs
    targets: Targets
    sample: Sample | None
    """None: all titles are scored."""
    of_users: int
    """Users of the whole batch, of which these are the share of one rank."""

    def among(self, group: Group, n_items: int) -> _Batch:
        """With sequences as long as any rank's: what is drawn for them has one shape."""
        sequence = self.inputs.sequence
        if sequence is None or group.size == 1:
            return self
        missing = group.most(sequence.shape[1]) - sequence.shape[1]
        padded = np.pad(sequence, ((0, 0), (0, missing)), constant_values=n_items)
        return replace(self, inputs=replace(self.inputs, sequence=padded))

    def part(self, users: slice) -> _Batch:
        """Some of its users, neighbours."""
        if users == slice(0, len(self.targets.weights)):
            return self
        sample = None if self.sample is None else self.sample.part(users)
        return _Batch(self.inputs.part(users), self.targets.part(users), sample, self.of_users)


class _Run:
    """One training: the network, its averages, and where it stands."""

    def __init__(
        self,
        histories: Histories,
        users: Longs,
        settings: AutoencoderSettings,
        device: str,
        precision: Precision,
        seed: int,
        tracker: Tracker,
        warm_start: UserAutoencoder | None,
        group: Group,
    ) -> None:
        self.histories, self.users, self.settings = histories, users, settings
        self.device, self.precision, self.seed, self.tracker = device, precision, seed, tracker
        self.group = group
        self.popularity = popularity_share(histories.positives())
        seed_epoch(seed, 0)
        self.shape = _shape(histories, settings) if warm_start is None else warm_start.shape
        network = self.shape.network()
        if warm_start is not None:
            if warm_start.n_items != histories.n_items:
                raise ValueError(f"warm start over {warm_start.n_items} titles, histories over {histories.n_items}")
            network.load_state_dict(warm_start.network.state_dict())
        self.network = network.to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.learning_rate,
            betas=_MOMENTS,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = Ema(self.network)
        self.stopping = EarlyStopping(settings.patience)
        self.best: dict[str, Tensor] | None = None
        self.curve: list[dict[str, float]] = []
        self.steps = 0
        self.warm = warm_start is not None
        self.pieces = Pieces(settings.batch_size, trainer=TRAINER, tracker=tracker)
        self.sampler = Sampler(self.popularity, settings.sampled_titles) if settings.sampled_titles else None
        self.unlearned = torch.from_numpy(np.where(self.popularity > 0, 0, -np.inf).astype(np.float32)).to(device)

    def train(
        self, validation: tuple[Histories, Histories] | None, checkpoints: Checkpoints | None
    ) -> AutoencoderTraining:
        if validation is not None and not validation[1].positive.any():
            self.tracker.note(f"nothing positive to validate the {TRAINER} on: it trains for all of its epochs")
            validation = None
        measure = None if validation is None else validator(*validation, self.shape, self.popularity, self.device)
        first = self._resume(checkpoints) + 1
        for epoch in range(first, self.settings.epochs + 1):
            if measure is not None and self.curve and self.stopping.stop(len(self.curve)):
                break
            figures = {"loss": self._epoch(epoch)}
            if measure is not None:
                with self.ema.applied_to(self.network):
                    figures["ndcg_at_10"] = self.group.leaders(partial(measure, self.network))
                    if self.stopping.update(epoch, figures["ndcg_at_10"]):
                        self.best = copy_of(self.network)
            self.curve.append(figures)
            self.tracker.epoch(epoch, self.settings.epochs, figures)
            if checkpoints is not None and self.group.leads and checkpoints.due():
                self._save(checkpoints)
        return self._finish()

    def _finish(self) -> AutoencoderTraining:
        load_into(self.network, self.ema.values if self.best is None else self.best)
        return AutoencoderTraining(
            model=UserAutoencoder(self.shape, self.network, self.popularity),
            settings=self.settings,
            best_epoch=self.stopping.best_epoch or len(self.curve),
            curve=self.curve,
        )

    def _epoch(self, epoch: int) -> float:
        """Go once over the users; the mean loss."""
        rng = seed_epoch(self.seed, epoch)
        order = rng.permutation(self.users)
        size = self.settings.batch_size
        per_epoch = math.ceil(len(order) / size)
        self.network.train()
        total = 0.0
        for batch in ahead(self._batches(order, rng)):
            rate = self.settings.learning_rate * warmup_then_decay(
                self.steps, per_epoch * self.settings.epochs, self._warm_up(per_epoch)
            )
            set_learning_rate(self.optimizer, rate)
            beta = self._kl_weight(self.steps / (per_epoch * self.settings.epochs))
            total += self._step(batch.among(self.group, self.shape.n_items), beta) * batch.of_users
            self.steps += 1
        self.network.eval()
        loss = self.group.total(total) / len(order)
        check_finite(loss, trainer=TRAINER, epoch=epoch, learning_rate=self.settings.learning_rate)
        return loss

    def _warm_up(self, per_epoch: int) -> int:
        return max(1, per_epoch * min(_WARM_UP_EPOCHS, self.settings.epochs // 4))

    def _kl_weight(self, progress: float) -> float:
        """Annealed from 0; a warm start has been through that."""
        return self.settings.kl_weight * (1.0 if self.warm else min(1.0, progress / _KL_ANNEALED))

    def _step(self, batch: _Batch, beta: float) -> float:
        size = len(batch.targets.weights)

        def reset() -> None:
            self.optimizer.zero_grad(set_to_none=True)

        def piece(users: NDArray[np.integer]) -> float:
            loss = self._loss(batch.part(slice(int(users[0]), int(users[-1]) + 1)), beta) / batch.of_users
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        reset()
        loss = self.pieces.run(np.arange(size), piece, reset)
        self.group.add_gradients(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimizer.step()
        self.ema.update(self.network)
        return loss

    def _loss(self, batch: _Batch, beta: float) -> Tensor:
        """Σ over users of n^-½ (−Σ log softmax of targets + β KL)."""
        with autocast(self.device, self.precision), self.group.drawing(batch.of_users):
            mean, log_variance = self.network.encode(*self.shape.tensors(batch.inputs, self.device))
            mean, log_variance = mean.float(), log_variance.float()
            users_drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            missed = self._missed(users_drawn, batch)
        weights = to_device(batch.targets.weights, self.device)
        return (weights * (missed + beta * kl_divergence(mean, log_variance))).sum()

    def _missed(self, users: Tensor, batch: _Batch) -> Tensor:
        """−Σ log softmax of each user's targets, [batch]."""
        targets = batch.targets
        if batch.sample is not None:
            decoder, bias = self.network.decoder, self.network.decoder_bias
            return sampled_cross_entropy(users, decoder, bias, batch.sample, targets)
        logits = self.network.decode(users).float() + self.unlearned
        places = [targets.seen_rows, targets.seen_items, targets.rows, targets.items]
        return masked_cross_entropy(logits, *(to_device(place, self.device) for place in places))

    def _batches(self, order: Longs, rng: np.random.Generator) -> Iterator[_Batch]:
        """An epoch's users, batch by batch, each with what is drawn for it."""
        for start in range(0, len(order), self.settings.batch_size):
            users = order[start : start + self.settings.batch_size]
            draws = self.group.draws(rng, self.histories, users)
            histories = with_ties_drawn(self.histories.select(users[self.group.share(len(users))]), draws)
            inputs, targets = self._draw(self.shape.rows(histories), draws)
            sample = None if self.sampler is None else self.sampler.draw(targets, rng)
            yield _Batch(inputs, targets, sample, len(users))

    def _draw(self, rows: Rows, rng: np.random.Generator) -> tuple[UserInputs, Targets]:
        if not self.shape.taus:
            return held_out(rows, rng)
        return next_window(
            rows,
            rng,
            taus=self.shape.taus,
            sequence_length=self.shape.sequence_length,
            dropout=self.settings.input_dropout,
            window=self.settings.window,
        )

    def _save(self, checkpoints: Checkpoints) -> None:
        groups: dict[str, dict[str, Tensor]] = {
            "network": copy_of(self.network),
            "ema": self.ema.values,
            "best": self.best or {},
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        state = {
            "curve": self.curve,
            "steps": self.steps,
            "best": self.stopping.best if self.best else None,
            "best_epoch": self.stopping.best_epoch,
        }
        checkpoints.save(tensors, state)

    def _resume(self, checkpoints: Checkpoints | None) -> int:
        """Go on from the checkpoint if there is one; the epochs that are done."""
        found = None if checkpoints is None else checkpoints.load()
        if found is None:
            return 0
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in found.tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = value.to(self.device)
        load_into(self.network, groups["network"])
        self.ema.values, self.best = groups["ema"], groups.get("best")
        load_optimizer(self.optimizer, groups["optimizer"])
        self.curve, self.steps = found.state["curve"], found.state["steps"]
        self.ema.steps = self.steps
        if found.state["best"] is not None:
            self.stopping.best, self.stopping.best_epoch = found.state["best"], found.state["best_epoch"]
        self.tracker.note(f"the {TRAINER} goes on after epoch {len(self.curve)}")
        return len(self.curve)


def _shape(histories: Histories, settings: AutoencoderSettings) -> AutoencoderShape:
    ordered = histories.ordered
    reads_all = ordered and not bool(histories.positive.all())  # unordered dislikes taught it less than they cost
    counts = Rows.of(histories, reads_all=reads_all).counts
    lengths = np.log1p(counts[counts >= 2] * _MEAN_CUT)
    return AutoencoderShape(
        n_items=histories.n_items,
        hidden_size=settings.hidden_size,
        embedding_size=settings.embedding_size,
        taus=_TAUS if ordered else (),
        sequence_length=_SEQUENCE_LENGTH if ordered and settings.sequence_channel else 0,
        length_centre=float(lengths.mean()),
        length_spread=max(0.5, float(lengths.std())),
        reads_all=reads_all,
        title_width=settings.title_width,
    )


def refit_settings(settings: AutoencoderSettings, best_epoch: int) -> AutoencoderSettings:
    """The settings of a refit that is warm-started from a training which was best at an epoch.

    There is no validation to stop on, so the length is fixed: half of what the first fit took.
    """
    return replace(settings, epochs=max(1, math.ceil(_REFIT_LENGTH * best_epoch)))
