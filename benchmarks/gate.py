"""What the gate's limits rest on: what leaks look like, and how often it errs.

``python -m benchmarks.gate leaks --home .marquee`` fits models that have seen all, three tenths or a tenth of the test
window, and honest ones, on the newest split of a home (made by ``marquee nightly`` or ``marquee train``).
``python -m benchmarks.gate rates --home .marquee`` plays nights in which a challenger is equal to the champion, better
or worse by a known share, and counts how often each rule promotes it. The users' figures are real ones: of EASE fitted
on two halves of the users (models that disagree), and with and without everybody's two newest titles (a night apart).
A night draws users with replacement and swaps the two models by lot, user by user: so they are equal exactly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.bootstrap import Interval, paired_bootstrap
from recsys.config import AutoencoderConfig, GateConfig
from recsys.data.split import TEST, Split
from recsys.evaluation import Evaluation, evaluate
from recsys.histories import Histories
from recsys.rivals import fit_family
from recsys.scoring import Scorer
from recsys.title_groups import MIDDLE, TAIL, TitleGroups

Doubles = NDArray[np.float64]

FAMILIES: dict[str, dict[str, float]] = {
    "item_knn": {},
    "ease": {"l2": 250.0},
    "ease_recency": {"l2": 150.0, "tau": 12.0},
    "order_ridge": {"l2": 1000.0, "tau": 8.0},
}
SHARES = (0.1, 0.3, 1.0)
"""Of the test window that a leaked model has seen."""
GAINS = (-0.10, -0.03, 0.0, 0.03, 0.10)
"""A challenger's true gain over the champion, relative."""


def leaks(home: Path, *, networks: bool) -> None:
    """Print figures of honest and of leaked models, and their ratio to the best honest closed-form one."""
    split = _newest_split(home)
    known, targets = split.known(TEST), split.targets(TEST)
    titles = TitleGroups.of(known, targets)
    honest = {name: evaluate(model, known, targets) for name, model in _fitted(split.fit, networks=networks)}
    closed = [e.metrics["ndcg_at_10"] for name, e in honest.items() if name in FAMILIES]
    for name, figures in honest.items():
        _show(name, figures, titles, max(closed))
    window = np.asarray(split.part) == TEST
    draw = np.random.default_rng(0).random(len(window))
    for share in SHARES:
        for name, model in _fitted(split.interactions.where(~window | (draw < share)), networks=networks):
            _show(f"{name}, {share:.0%} of test seen", evaluate(model, known, targets), titles, max(closed))


def _newest_split(home: Path) -> Split:
    return Split.load(max((home / "artefacts" / "split").iterdir(), key=lambda folder: folder.stat().st_mtime))


def _fitted(histories: Histories, *, networks: bool) -> Iterator[tuple[str, Scorer]]:
    for name, params in FAMILIES.items():
        if histories.ordered or name in {"item_knn", "ease"}:
            yield name, fit_family(name, params, histories)
    if networks:
        yield "user_autoencoder", _autoencoder(histories)


def _autoencoder(histories: Histories) -> Scorer:
    from recsys.models.autoencoder_training import resolve, train_user_autoencoder
    from recsys.tracker import NullTracker

    settings = resolve(
        AutoencoderConfig(),
        n_users=histories.n_users,
        n_items=histories.n_items,
        n_interactions=int(histories.positive.sum()),
        ordered=histories.ordered,
    )
    return train_user_autoencoder(
        histories, settings=settings, validation=None, device="cpu", seed=0, tracker=NullTracker()
    ).model


def _show(name: str, figures: Evaluation, titles: TitleGroups, best: float) -> None:
    metrics = figures.metrics
    rare, tail = (np.nanmean(titles.recall(figures.top, groups)) for groups in ((MIDDLE, TAIL), (TAIL,)))
    print(
        f"{name:<38} NDCG@10 {metrics['ndcg_at_10']:.4f} ({metrics['ndcg_at_10'] / best:.2f} x)  "
        f"coverage {metrics['coverage_at_10']:.3f}  1-Gini {1 - metrics['gini_at_10']:.3f}  "
        f"recall of the less-watched half {rare:.3f}, of the tail {tail:.3f}",
        flush=True,
    )


def rates(home: Path, nights: int, users: tuple[int, ...]) -> None:
    """Print how often a challenger of known worth is promoted, as another recipe and as a refresh."""
    gate = GateConfig()
    print(f"{nights} nights each; promoted as another recipe / as the champion's own recipe on newer data")
    for name, pair in _pairs(_newest_split(home)).items():
        print(f"{name}: mean {pair.mean():.4f}, spread of a user's difference {(pair[0] - pair[1]).std():.4f}")
        for n_users in users:
            found = {gain: [_night(seed, pair, n_users, gain, gate) for seed in range(nights)] for gain in GAINS}
            half = np.mean([(interval.high - interval.low) / 2 for interval in found[0.0]])
            shares = [
                f"{gain:+.0%} {_share(i, _proven, gate)} / {_share(i, _fresh, gate)}" for gain, i in found.items()
            ]
            sure = np.mean([interval.low > 0 for interval in found[0.0]])
            text = f"{n_users:>7} users (interval ±{half:.4f})  {';  '.join(shares)};  equal, called better: {sure:.1%}"
            print(text, flush=True)


def _pairs(split: Split) -> dict[str, Doubles]:
    """NDCG@10 of two models, [2, n_users], by what tells the two apart."""
    known, targets, fit = split.known(TEST), split.targets(TEST), split.fit
    first = np.random.default_rng(0).random(fit.n_users) < 0.5
    fits = {
        "two halves of the users": (fit.select(np.flatnonzero(first)), fit.select(np.flatnonzero(~first))),
        "a night apart": (fit.where(fit.ages >= 2), fit),
    }
    return {
        name: np.stack(
            [
                evaluate(fit_family("ease", FAMILIES["ease"], histories), known, targets).per_user["ndcg_at_10"]
                for histories in pair
            ]
        ).astype(np.float64)
        for name, pair in fits.items()
    }


def _night(seed: int, pair: Doubles, n_users: int, gain: float, gate: GateConfig) -> Interval:
    rng = np.random.default_rng(seed)
    drawn = pair[:, rng.integers(0, pair.shape[1], n_users)]
    swap = rng.random(n_users) < 0.5
    champion, challenger = np.where(swap, drawn[::-1], drawn)
    return paired_bootstrap(
        challenger * (1 + gain), champion, resamples=gate.resamples, confidence=gate.confidence, seed=seed
    )


def _share(intervals: list[Interval], rule: Callable[[Interval, GateConfig], bool], gate: GateConfig) -> str:
    return f"{np.mean([rule(interval, gate) for interval in intervals]):.1%}"


def _proven(interval: Interval, gate: GateConfig) -> bool:
    return interval.low >= -gate.tolerance


def _fresh(interval: Interval, gate: GateConfig) -> bool:
    return interval.high >= 0 and interval.mean >= -gate.tolerance


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    leaking = commands.add_parser("leaks")
    leaking.add_argument("--networks", action="store_true", help="the autoencoder too: four trainings")
    erring = commands.add_parser("rates")
    erring.add_argument("--nights", type=int, default=400)
    erring.add_argument("--users", type=int, nargs="+", default=[250, 900])
    for command in (leaking, erring):
        command.add_argument("--home", type=Path, default=Path(".marquee"))
    given = parser.parse_args()
    with threadpool_limits(1):
        if given.command == "leaks":
            leaks(given.home, networks=given.networks)
        else:
            rates(given.home, given.nights, tuple(given.users))


if __name__ == "__main__":
    main()
