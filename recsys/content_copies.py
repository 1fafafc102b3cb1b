"""What the content CNN's process runs: the copy that is measured on cold titles, the final one, and their report.

``measured`` never saw a tenth of the titles: on a part of them its epochs are chosen, on the others it is compared
with what text can do without a network. ``final`` is trained on all titles, in the same space, for as many epochs.
Takes paths, and goes on where a killed process stopped. PyTorch is imported when it runs: the parent stays light.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from recsys.artefacts import write_text
from recsys.cold_titles import ColdDraw, cold_figures, draw_cold, users_of
from recsys.config import ContentConfig
from recsys.content_baselines import PENALTIES, TfidfNeighbours, TfidfRidge, rated_titles, tfidf
from recsys.data.split import Split
from recsys.data.text import Documents, Vocabulary
from recsys.devices import Precision
from recsys.histories import Bools, Floats, Histories, Ints
from recsys.tracker import ContinuedTracker, Tracker

if TYPE_CHECKING:
    from recsys.models.content_cnn import ContentCnn

Scores = Callable[[Histories], Floats]
"""Scores [n_users, n] of users given by their histories."""

MEASURED, FINAL, REPORT = "measured", "final", "content.json"
CHECKPOINT_SECONDS = 5.0
DEFAULT_EPOCHS = 8
TITLES_PER_STEP = 512
WEIGHT_DECAY = 1e-2
_RIVAL_TITLES = 8_000  # with more rated ones the rivals' dense matrices would cost more than the training
_DONE = "training.json"


def fit_content(
    split_folder: Path,
    folder: Path,
    config: ContentConfig,
    *,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    tracker: Tracker,
) -> dict[str, Any]:
    """Make the copies ``measured`` and ``final`` in ``folder``, and ``content.json``: settings, figures, curves.

    Args:
        split_folder: holds a :class:`recsys.data.split.Split`; only its train window is read.
        folder: where copies and checkpoints go; what a killed process left there is used.
        config: the configuration.
        identity: of data, configuration and code: another one's checkpoints are not used.
        device: cpu or cuda:N.
        precision: of forward passes.
        seed: of the draw of cold titles and of training.
        tracker: hears the epochs of both copies as one training.

    Returns:
        the content of ``content.json``.

    Raises:
        TrainingError: see :func:`recsys.models.content_training.train_content_cnn`.
    """
    split = Split.load(split_folder)
    vocabulary = Vocabulary.train(split.titles, vocabulary_size=config.vocabulary_size, max_tokens=config.max_tokens)
    documents = vocabulary.encode(split.titles)
    draw = draw_cold(split.train, fraction=config.cold_fraction, seed=seed)
    epochs = config.epochs or DEFAULT_EPOCHS
    settings = {**config.model_dump(mode="json"), "epochs": epochs, "titles_per_step": TITLES_PER_STEP}
    tracker.params(settings)
    options: dict[str, Any] = {
        "config": config, "device": device, "precision": precision, "seed": seed, "identity": identity
    }  # fmt: skip
    first = _copy(folder / MEASURED, vocabulary, documents, draw.warm, epochs, tracker, draw=draw, **options)
    kept = first["epochs"]
    second = _copy(
        folder / FINAL,
        vocabulary,
        documents,
        split.train,
        kept,
        ContinuedTracker(tracker, len(first["curve"])),
        like=folder / MEASURED,
        penalties=(first["penalty"],),
        **options,
    )
    cold = _measure(folder / MEASURED, documents, draw, seed)
    report = {
        "settings": {**settings, "kept_epochs": kept, "ridge_penalty": first["penalty"], "tokens": documents.n_tokens},
        "figures": {f"cold_{name}": value for name, value in cold["content_cnn"].items()},
        "cold": cold,
        "ridge": first["ridge"],
        "curve": first["curve"],
        "final": {"epochs": kept, "curve": second["curve"]},
    }
    write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def settings_of(config: ContentConfig) -> dict[str, Any]:
    """What the configuration says of a training, but for its epochs, as ``train_content_cnn`` takes it."""
    return {
        "output_size": config.output_size,
        "embedding_size": config.embedding_size,
        "channels": config.channels,
        "batch_size": config.batch_size,
        "titles_per_step": TITLES_PER_STEP,
        "learning_rate": config.learning_rate,
        "weight_decay": WEIGHT_DECAY,
        "token_dropout": config.token_dropout,
        "dropout": config.dropout,
        "patience": config.patience,
    }


def _copy(
    folder: Path,
    vocabulary: Vocabulary,
    documents: Documents,
    histories: Histories,
    epochs: int,
    tracker: Tracker,
    *,
    config: ContentConfig,
    identity: str,
    device: str,
    precision: Precision,
    seed: int,
    draw: ColdDraw | None = None,
    like: Path | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> dict[str, Any]:
    """Train and save one copy, unless a process before this one did."""
    from recsys.checkpoints import Checkpoints
    from recsys.models.content_cnn import ContentCnn
    from recsys.models.content_training import StopTitles, train_content_cnn

    done = _finished(folder / _DONE, identity)
    if done is not None:
        return done
    checkpoints = Checkpoints(folder / "checkpoint", identity, every_seconds=CHECKPOINT_SECONDS)
    training = train_content_cnn(
        vocabulary,
        documents,
        histories,
        stop=None if draw is None or not len(draw.stop) else StopTitles(draw.stop, draw.liked),
        epochs=epochs,
        **settings_of(config),
        device=device,
        precision=precision,
        seed=seed,
        tracker=tracker,
        like=None if like is None else ContentCnn.load(like).history_rows,
        penalties=penalties,
        checkpoints=checkpoints,
    )
    training.model.save(folder)
    report = {
        "identity": identity,
        "epochs": training.epochs,
        "penalty": training.model.settings.penalty,
        "ridge": training.ridge,
        "curve": training.curve,
    }
    write_text(folder / _DONE, json.dumps(report, indent=1) + "\n")
    checkpoints.remove()
    return report


def _finished(path: Path, identity: str) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return report if report.get("identity") == identity else None


def _measure(copy: Path, documents: Documents, draw: ColdDraw, seed: int) -> dict[str, dict[str, float]]:
    """How the cold titles are ranked: by the tower, its ridge alone (a bag of tokens), text without either, by lot."""
    from recsys.models.content_cnn import ContentCnn

    if not len(draw.report):
        return {"content_cnn": {}}
    model = ContentCnn.load(copy)
    figures = {
        "content_cnn": ask(partial(_by_tower, model, draw.report), draw, draw.report),
        "bag_of_tokens": ask(partial(model.ridge_scores, documents.select(draw.report)), draw, draw.report),
        "random": ask(_by_lot(len(draw.report), seed), draw, draw.report),
    }
    return {**figures, **rivals(documents, draw)}


def _by_tower(model: ContentCnn, items: Ints, histories: Histories) -> Floats:
    return model.user_vectors(histories) @ model.title_vectors[items].T + model.title_bias[items]


def rivals(documents: Documents, draw: ColdDraw) -> dict[str, dict[str, float]]:
    """Figures of TF-IDF neighbours and ridge on the cold titles, each tuned on those to stop on.

    Empty where the catalogue is so large that they would cost more than the tower.
    """
    rated = rated_titles(draw.warm)
    if rated.sum() > _RIVAL_TITLES:
        return {}
    features = tfidf(documents)
    neighbours = [partial(_neighbours, features, rated, k) for k in (20, 50, 100)]
    ridges = [partial(_ridge, features, rated, penalty) for penalty in (3.0, 10.0)]
    return {"tfidf_neighbours": _tuned(neighbours, draw), "tfidf_ridge": _tuned(ridges, draw)}


def _neighbours(features: sparse.csr_matrix, rated: Bools, k: int) -> Scores:
    return TfidfNeighbours.fit(features, rated, k=k).scores


def _ridge(features: sparse.csr_matrix, rated: Bools, penalty: float) -> Scores:
    return TfidfRidge.fit(features, rated, penalty=penalty).scores


def _tuned(options: Sequence[Callable[[], Scores]], draw: ColdDraw) -> dict[str, float]:
    """The figures on the titles to report on of the option that is best on those to stop on."""
    best, figures = -1.0, {}
    for option in options:
        scores = option()
        figure = ask(_of(scores, draw.stop), draw, draw.stop)["ndcg_at_100"] if len(draw.stop) else 0.0
        if figure > best:
            best, figures = figure, ask(_of(scores, draw.report), draw, draw.report)
    return figures


def _of(scores: Scores, items: Ints) -> Scores:
    return lambda histories: scores(histories)[:, items]


def _by_lot(n: int, seed: int) -> Scores:
    rng = np.random.default_rng([seed, 0x107])
    return lambda histories: rng.random((histories.n_users, n), np.float32)


def ask(scores: Scores, draw: ColdDraw, items: Ints, *, block: int = 512) -> dict[str, float]:
    """The figures of a scorer of some cold titles, over the users who like one of them; a block of users at a time."""
    users = users_of(draw.liked, items)
    parts = [scores(some) for _, some in draw.warm.select(users).blocks(block)]
    found = np.concatenate(parts) if parts else np.zeros((0, len(items)), np.float32)
    return cold_figures(found, draw.liked.select(users), items)
