"""Our trainers against a dense Mult-VAE and NeuMF as a user would write them: speed, and what they find.

Speed: the same users, widths, batch size and threads; rounds of either in turn, and the median of the ratios. What
they find: both on a small service, the reference for as long as its validation gets better. Loader: the share of a
step that is not waiting for its batch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.quality.sources import ROOT
from benchmarks.scale.clock import Fairly, autoencoder_clock, ncf_clock
from benchmarks.scale.data import service
from benchmarks.scale.found import found_by_both, settings_of
from benchmarks.scale.histories import cut, read_ratings
from benchmarks.scale.references import MultVae, NeuMf, Samples, mult_vae_steps, neumf_steps
from benchmarks.scale.rows import Row
from recsys.config import NcfConfig
from recsys.cooccurrence import counts
from recsys.histories import Floats, Histories
from recsys.models.autoencoder_training import AutoencoderSettings, train_user_autoencoder
from recsys.ncf_training import train_ncf
from recsys.pairs import Lesson, Pairs, TitleTables
from recsys.tracker import NullTracker
from recsys.two_stage import resolve as resolve_ncf

PART = "trainers"
TIMES, LEAST_SHARE = 3.0, 0.9
ROUNDS, STEPS = 3, 25
"""Rounds of either in turn, and steps of a round."""
ENOUGH = 8.0
"""Seconds after which a reference's round ends."""
LEARNERS, CANDIDATES, FEATURES = 2_560, 200, 24
"""Users, candidates and features of the pairs that NCF is timed on: drawn at random, for its cost is not in values."""
LEARNED = 0.9
"""Share of the users that a network learns from; it is validated on the others."""


def measure(size: str) -> list[Row]:
    """Speed at this size, loader shares, and what both find on a small service."""
    known, _ = cut(read_ratings(service(size).ratings))
    return [*autoencoder_rows(known), *ncf_rows(known), *found_rows()]


def autoencoder_rows(known: Histories) -> list[Row]:
    """The user autoencoder against a dense Mult-VAE."""
    settings, how = settings_of(known), Fairly.here()
    users = np.random.default_rng(0).permutation(np.flatnonzero(known.positives().lengths >= 2))
    some = known.select(users[: STEPS * settings.batch_size])
    ours, shares, theirs = [], [], []
    steps = _mult_vae(some, settings, np.random.default_rng(0))
    _speed(steps, 2, how)  # the first steps also ask for memory
    for _ in range(ROUNDS):
        theirs.append(_speed(steps, STEPS, how))
        with autoencoder_clock(how.now) as clock:
            _train(some, settings)
        ours.append(int(some.positive.sum()) / clock.total)
        shares.append(clock.compute_share)
    detail = {"interactions_per_second": ours, "reference": theirs, "titles": some.n_items,
              "settings": asdict(settings)}  # fmt: skip
    return [
        _times("user autoencoder: interactions/s against a dense Mult-VAE", ours, theirs, how, detail),
        _share("user autoencoder", shares),
    ]


def _train(some: Histories, settings: AutoencoderSettings) -> None:
    once = replace(settings, epochs=1)
    train_user_autoencoder(some, settings=once, validation=None, device="cpu", seed=0, tracker=NullTracker())


def _mult_vae(some: Histories, settings: AutoencoderSettings, rng: np.random.Generator) -> Iterator[int]:
    torch.manual_seed(0)
    matrix = some.positives().matrix()
    model = MultVae(some.n_items, settings.hidden_size, settings.embedding_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        yield from mult_vae_steps(model, optimizer, matrix, batch_size=settings.batch_size, rng=rng)


def ncf_rows(known: Histories) -> list[Row]:
    """NCF against NeuMF: user-title pairs learned from in a second, with as many of them a step."""
    vector_size, how = settings_of(known).embedding_size, Fairly.here()
    settings = resolve_ncf(NcfConfig(epochs=2, seeds=1), ordered=known.ordered, n_users=100_000)
    lesson, tables = _lesson(counts(known), vector_size)
    ours, shares, theirs = [], [], []
    steps = _neumf(known, vector_size, settings, np.random.default_rng(0))
    _speed(steps, 1, how)
    for _ in range(ROUNDS):
        theirs.append(_speed(steps, STEPS, how))
        with ncf_clock(how.now) as clock:
            train_ncf([lesson], tables, settings, _names(), seed=0, tracker=NullTracker())
        ours.append(LEARNED * LEARNERS * CANDIDATES * settings.epochs / clock.total)
        shares.append(clock.compute_share)
    detail = {"pairs_per_second": ours, "reference": theirs, "vector_size": vector_size, "settings": asdict(settings)}
    return [_times("NCF: pairs/s against a NeuMF", ours, theirs, how, detail), _share("NCF", shares)]


def _lesson(popularity: Floats, vector_size: int) -> tuple[Lesson, TitleTables]:
    """Candidates are drawn by popularity, as towers retrieve them; what else they are says nothing about speed."""
    n_items, rng = len(popularity), np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    chances = popularity / popularity.sum()
    items = rng.choice(n_items, (LEARNERS, CANDIDATES), p=chances).astype(np.int32)
    pairs = Pairs(
        drawn(LEARNERS, CANDIDATES, FEATURES), drawn(LEARNERS, CANDIDATES), items, drawn(LEARNERS, vector_size)
    )
    wanted = rng.random((LEARNERS, CANDIDATES)) < 0.03
    tables = TitleTables(drawn(n_items, vector_size), drawn(n_items, vector_size))
    return Lesson(pairs, wanted, np.maximum(1, wanted.sum(axis=1))), tables


def _names() -> tuple[str, ...]:
    return tuple(f"feature_{number}" for number in range(FEATURES))


def _neumf(known: Histories, vector_size: int, settings: Any, rng: np.random.Generator) -> Iterator[int]:
    """NeuMF over as many users as have samples enough for a round."""
    torch.manual_seed(0)
    per_step = settings.batch_size * CANDIDATES
    enough = int(np.searchsorted(np.cumsum(known.positives().lengths), STEPS * per_step // 5)) + 1
    liked = known.positives().select(slice(0, enough))
    model = NeuMf(liked.n_users, liked.n_items, gmf_size=vector_size, mlp_size=settings.projection_size,
                  hidden_size=settings.hidden_size)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    samples = Samples(liked.matrix(), rng)
    while True:
        yield from neumf_steps(model, optimizer, samples, batch_size=per_step)


def found_rows() -> list[Row]:
    """NDCG@10 on validation, ours over the reference's."""
    found = found_by_both(_small_ratings())
    return [_found(f"{name}: validation NDCG@10 over the reference's", detail) for name, detail in found.items()]


def _found(what: str, detail: dict[str, Any]) -> Row:
    ratio = detail["ours"]["ndcg_at_10"] / max(detail["reference"]["ndcg_at_10"], 1e-9)
    return Row(PART, f"{what} ({detail['data']})", ratio, "×", ">= 1", ratio >= 1, detail)


def _small_ratings() -> tuple[str, Path]:
    """ml-latest-small where it is given, else a small made-up service."""
    given = Path(os.environ.get("MARQUEE_TEST_DATA", ROOT.parent / "shared" / "data")) / "ml-latest-small"
    if (given / "ratings.csv").is_file():
        return "ml-latest-small", given / "ratings.csv"
    return "a made-up service of 100,000 ratings", service("small").ratings


def _speed(steps: Iterator[int], most: int, how: Fairly) -> float:
    """What the next steps did in a second."""
    began, done, number = how.now(), 0, 0
    while number < most and how.now() - began < ENOUGH:
        done += next(steps)
        number += 1
    return done / (how.now() - began)


def _times(what: str, ours: list[float], theirs: list[float], how: Fairly, detail: dict[str, Any]) -> Row:
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Row(PART, f"{what} ({how.words})", ratio, "×", f">= {TIMES:g}", ratio >= TIMES, detail)


def _share(name: str, shares: list[float]) -> Row:
    share = median(shares)
    what = f"{name}: share of a step that is not waiting for its batch"
    return Row(PART, what, share, "", f">= {LEAST_SHARE:g}", share >= LEAST_SHARE, {"rounds": shares})


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.trainers")
    parser.add_argument("--size", default="1m")
    for row in measure(parser.parse_args().size):
        print(row)


if __name__ == "__main__":
    main()
