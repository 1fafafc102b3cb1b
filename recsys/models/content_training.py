"""Training of the content CNN: a closed form first, then the network on top, by ranking titles for users.

Each step draws users and titles, gives a part of each user's likes, and asks for the rest among the titles drawn
(softmax). Titles held out whole say when to stop. Knows nothing of artefacts or of the other models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.checkpoints import Checkpoints
from recsys.cold_titles import cold_figures, users_of
from recsys.content_baselines import PENALTIES, inverse_document_frequency, rated_titles, tfidf
from recsys.content_space import ContentSpace, fit_space, user_vectors
from recsys.data.text import PAD, Documents, Vocabulary
from recsys.devices import Precision, autocast, to_device
from recsys.errors import TrainingError
from recsys.histories import Floats, Histories, Ints, Longs
from recsys.models.content_cnn import ContentCnn, ContentSettings, encode_with, new_network, tensors_of
from recsys.models.content_network import TitleNetwork
from recsys.tracker import Tracker
from recsys.training import (
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

STOP_METRIC = "ndcg_at_100"
_PASSES, _LEAST_STEPS, _MOST_STEPS = 3, 10, 20  # of an epoch: passes over the titles, within so many steps
_MOMENTS = (0.9, 0.99)
_CLIP = 5.0
_PIECES = 4  # of a step's titles, by length: padding costs
_EMA = 0.99
_WARM_UP, _LAST_RATE = 0.1, 0.1
_NOISE = 0.25  # one draw of n titles differs from the next by about this over √n, in NDCG


@dataclass(frozen=True)
class StopTitles:
    """Cold titles on which training stops."""

    items: Ints
    """Ascending; none of them is in the histories that are trained on."""
    liked: Histories
    """Their likes, by the same users."""


@dataclass(frozen=True)
class ContentTraining:
    """A trained tower and how it came about."""

    model: ContentCnn
    epochs: int
    """Epochs that were kept; 0 means that the network added nothing to the ridge."""
    ridge: dict[str, float] = field(default_factory=dict)
    """Figures of the ridge alone on the titles to stop on."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """Per epoch: loss, and figures on the titles to stop on."""


def train_content_cnn(
    vocabulary: Vocabulary,
    documents: Documents,
    histories: Histories,
    *,
    stop: StopTitles | None,
    output_size: int,
    embedding_size: int,
    channels: int,
    epochs: int,
    batch_size: int,
    titles_per_step: int,
    learning_rate: float,
    weight_decay: float,
    token_dropout: float,
    dropout: float,
    patience: int,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
    like: Floats | None = None,
    penalties: Sequence[float] = PENALTIES,
    checkpoints: Checkpoints | None = None,
) -> ContentTraining:
    """Train on the likes of histories.

    Args:
        vocabulary: that encoded the documents.
        documents: of every title, by number.
        histories: of every user; titles to stop on do not occur in it.
        stop: titles held out to choose the number of epochs; None: all ``epochs`` are run and kept.
        output_size: d, the width of title vectors.
        embedding_size: width of a token.
        channels: per width of convolution.
        epochs: of three passes over the titles each (but at least 10 and at most 20 steps).
        batch_size: users per step.
        titles_per_step: titles ranked per step.
        learning_rate: AdamW's peak.
        weight_decay: AdamW's.
        token_dropout: share of tokens hidden in training.
        dropout: before the last layer.
        patience: epochs without a better figure before stopping.
        device: to train on.
        precision: of forward passes.
        seed: same seed, same model (on the CPU).
        tracker: hears every epoch.
        like: ``history_rows`` of an older tower over the same titles: the space is turned to match its, so that
            vectors of the two may be compared.
        penalties: of the ridge, to choose from.
        checkpoints: where to keep what is needed to go on after a kill; an interrupted training of the same identity
            found there is continued, to the same bytes.

    Raises:
        TrainingError: the loss is not finite, or nobody has liked two titles.
    """
    likes = histories.positives()
    with deterministic(device):
        space = fit_space(
            likes, tfidf(documents), embedding_size=output_size, seed=seed, like=like, penalties=penalties
        )
        settings = ContentSettings(output_size, embedding_size, channels, dropout, space.penalty, epochs)
        network = new_network(settings, vocabulary.n_tokens, seed)
        lesson = _Lesson.of(documents, space, likes, batch_size, titles_per_step, token_dropout)
        exam = None if stop is None else _Exam.of(documents, space, likes, stop)
        optimizer = torch.optim.AdamW(network.to(device).parameters(), betas=_MOMENTS, weight_decay=weight_decay)
        progress = _Progress.begin(network, exam, device, checkpoints, optimizer)
        if progress.epoch:
            tracker.note(f"the content CNN goes on after epoch {progress.epoch}")
        for epoch in range(progress.epoch + 1, epochs + 1):
            if exam is not None and progress.stopped(patience):
                break
            loss = _train_epoch(
                network, lesson, optimizer, progress.ema, epoch, epochs, learning_rate, device, precision, seed
            )
            with progress.ema.applied_to(network):
                figures = {"loss": loss, **(exam.figures(network, device) if exam else {})}
            progress.ended(epoch, figures, None if exam is None else exam.tolerance)
            tracker.epoch(epoch, epochs, figures)
            if checkpoints is not None and checkpoints.due():
                progress.save(checkpoints, network, optimizer)
        load_into(network, progress.kept)
        model = ContentCnn(
            settings=replace(settings, epochs=progress.kept_epoch),
            vocabulary=vocabulary,
            idf=inverse_document_frequency(documents),
            weights=space.weights,
            network=network.to("cpu"),
            history_rows=space.history_rows,
            titles=encode_with(network, documents, space.title_rows, device="cpu"),
        )
    return ContentTraining(model, progress.kept_epoch, progress.ridge, progress.curve)


def _train_epoch(
    network: TitleNetwork,
    lesson: _Lesson,
    optimizer: torch.optim.Optimizer,
    ema: Ema,
    epoch: int,
    epochs: int,
    learning_rate: float,
    device: str,
    precision: Precision,
    seed: int,
) -> float:
    """One pass; gives the mean loss."""
    rng = seed_epoch(seed, epoch)
    network.train()
    losses = []
    total, before = epochs * lesson.steps, (epoch - 1) * lesson.steps
    for step, users in enumerate(lesson.batches(rng)):
        warmup = max(1, round(_WARM_UP * total))
        set_learning_rate(optimizer, learning_rate * warmup_then_decay(before + step, total, warmup, floor=_LAST_RATE))
        with autocast(device, precision):
            loss = _step_loss(network, lesson, users, device, rng)
        losses.append(loss.item())
        check_finite(losses[-1], trainer="content CNN", epoch=epoch, learning_rate=learning_rate)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
        ema.update(network)
    return float(np.mean(losses))


@dataclass
class _Progress:
    """How far a training has come, and the weights it would keep."""

    ema: Ema
    kept: dict[str, Tensor]
    kept_epoch: int
    epoch: int
    ridge: dict[str, float]
    curve: list[dict[str, float]]
    best: float

    @classmethod
    def begin(
        cls,
        network: TitleNetwork,
        exam: _Exam | None,
        device: str,
        checkpoints: Checkpoints | None,
        optimizer: torch.optim.Optimizer,
    ) -> _Progress:
        """At the start, or where an interrupted training left off."""
        saved = None if checkpoints is None else checkpoints.load()
        if saved is None:
            figures = {} if exam is None else exam.figures(network, device)
            best = figures.get(STOP_METRIC, -math.inf)
            return cls(Ema(network, _EMA), copy_of(network), 0, 0, figures, [], best)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "kept": {}, "optimizer": {}}
        for name, value in saved.tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = value.to(device)
        load_into(network, parts["network"])
        load_optimizer(optimizer, parts["optimizer"])
        ema = Ema(network, _EMA)
        ema.steps, ema.values = saved.state["ema_steps"], {name: parts["ema"][name] for name in ema.values}
        kept = {name: parts["kept"][name] for name in ema.values}
        state = saved.state
        return cls(ema, kept, state["kept_epoch"], state["epoch"], state["ridge"], state["curve"], state["best"])

    def save(self, checkpoints: Checkpoints, network: TitleNetwork, optimizer: torch.optim.Optimizer) -> None:
        """Write all of it."""
        parts = {
            "network": copy_of(network),
            "ema": self.ema.values,
            "kept": self.kept,
            "optimizer": optimizer_tensors(optimizer),
        }
        tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        state = {name: getattr(self, name) for name in ("kept_epoch", "epoch", "ridge", "curve", "best")}
        checkpoints.save(tensors, {**state, "ema_steps": self.ema.steps})

    def ended(self, epoch: int, figures: Mapping[str, float], tolerance: float | None) -> None:
        """Take in an epoch: it is kept unless the titles to stop on speak clearly against it."""
        self.epoch = epoch
        self.curve.append(dict(figures))
        figure = figures.get(STOP_METRIC, math.inf)
        if tolerance is None or not figure < self.best - tolerance:
            self.kept = {name: value.clone() for name, value in self.ema.values.items()}
            self.kept_epoch = epoch
        if tolerance is not None:
            self.best = max(self.best, figure)

    def stopped(self, patience: int) -> bool:
        """Whether the epoch kept lies further back than the patience."""
        return self.epoch - self.kept_epoch >= patience


@dataclass(frozen=True)
class _Lesson:
    """What training reads, and in what portions."""

    documents: Documents
    space: ContentSpace
    histories: Histories
    """Likes of users who have at least two."""
    warm: Longs
    """Titles to be ranked, by the length of their documents."""
    batch_size: int
    titles_per_step: int
    token_dropout: float

    @classmethod
    def of(
        cls,
        documents: Documents,
        space: ContentSpace,
        likes: Histories,
        batch_size: int,
        titles_per_step: int,
        token_dropout: float,
    ) -> _Lesson:
        histories = likes.select(np.flatnonzero(likes.lengths >= 2))
        warm = np.flatnonzero(rated_titles(likes)).astype(np.int64)
        if not histories.n_users:
            raise TrainingError(
                "no user has liked two titles, so the content CNN has nothing to learn from",
                remedy="bring more ratings, or lower [ratings] positive_from",
            )
        order = np.argsort((documents.tokens[warm] != PAD).sum(axis=1), kind="stable")
        size = min(batch_size, histories.n_users)
        return cls(documents, space, histories, warm[order], size, titles_per_step, token_dropout)

    @property
    def steps(self) -> int:
        """Steps of an epoch. What wears out is titles, not users: they decide its length."""
        return int(np.clip(-(-_PASSES * len(self.warm) // self.titles_per_step), _LEAST_STEPS, _MOST_STEPS))

    def batches(self, rng: np.random.Generator) -> list[Longs]:
        """An epoch's users, batch by batch: as many passes over them as it takes."""
        n_users, size = self.histories.n_users, self.batch_size
        order = np.concatenate([rng.permutation(n_users) for _ in range(-(-self.steps * size // n_users))])
        return [order[start : start + size] for start in range(0, self.steps * size, size)]

    def titles(self, rng: np.random.Generator) -> Longs:
        """A step's titles, the shortest first."""
        if len(self.warm) <= self.titles_per_step:
            return self.warm
        return self.warm[np.sort(rng.choice(len(self.warm), self.titles_per_step, replace=False))]


def _step_loss(network: TitleNetwork, lesson: _Lesson, users: Longs, device: str, rng: np.random.Generator) -> Tensor:
    titles = lesson.titles(rng)
    block = lesson.histories.select(users)
    share = np.repeat(rng.uniform(0.3, 0.8, block.n_users), block.lengths)
    is_given = rng.random(len(block.item_nums)) < share
    given, wanted = block.where(is_given), block.where(~is_given)
    vectors = to_device(user_vectors(given, lesson.space.history_rows), device)  # [n_users, d]
    pieces = []
    for piece in np.array_split(titles, _PIECES):
        tokens, fields, base = tensors_of(lesson.documents, lesson.space.title_rows, piece, device)
        kept = to_device(rng.random(tokens.shape) >= lesson.token_dropout, device)
        pieces.append(network(tokens.where(kept, PAD), fields, base))
    rows = torch.cat(pieces)  # [n_titles, d + 1]
    scores = (vectors @ rows[:, :-1].T + rows[:, -1]).float()  # [n_users, n_titles]
    return _ranking_loss(scores, _cells(given, titles, device) > 0, _cells(wanted, titles, device))


def _cells(histories: Histories, titles: Longs, device: str) -> Tensor:
    return to_device(histories.matrix()[:, titles].toarray(), device)


def _ranking_loss(scores: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
    """Softmax over the step's titles, those given left out; a user weighs n^-1/2, as in the autoencoder."""
    chances = functional.log_softmax(scores.masked_fill(given, -1e9), dim=1)
    weight = wanted.sum(dim=1).clamp(min=1).rsqrt()
    return -((chances * wanted).sum(dim=1) * weight).mean()


@dataclass(frozen=True)
class _Exam:
    """The cold titles to stop on, and the users who like some of them."""

    documents: Documents
    rows: Floats
    vectors: Floats
    liked: Histories
    items: Ints

    @classmethod
    def of(cls, documents: Documents, space: ContentSpace, likes: Histories, stop: StopTitles) -> _Exam:
        users = users_of(stop.liked, stop.items)
        return cls(
            documents.select(stop.items),
            space.title_rows[stop.items],
            user_vectors(likes.select(users), space.history_rows),
            stop.liked.select(users),
            stop.items,
        )

    @property
    def tolerance(self) -> float:
        """By how much a figure may fall short of the best without saying anything, so few titles are asked about."""
        return _NOISE / math.sqrt(max(1, len(self.items)))

    def figures(self, network: TitleNetwork, device: str) -> dict[str, float]:
        rows = encode_with(network, self.documents, self.rows, device=device)
        figures = cold_figures(self.vectors @ rows[:, :-1].T + rows[:, -1], self.liked, self.items)
        return {name: figures[name] for name in ("recall_at_20", "ndcg_at_10", STOP_METRIC)}
