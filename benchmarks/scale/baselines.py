"""The closed-form baselines: iALS and item-kNN against ``implicit``'s own, and what the dense models cover and hold.

Every run is a fresh process, so that seconds and peak of memory are its own; ours and the peer's take turns, and the
median of the ratios counts. ``implicit`` keeps as many neighbours as ours; it shrinks no cosine, which ours do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from threadpoolctl import threadpool_limits

from benchmarks.scale.data import SIZES, service
from benchmarks.scale.histories import read_ratings
from benchmarks.scale.rows import Row
from recsys.coverage import coverage
from recsys.histories import Histories
from recsys.models.baselines import Ials, ItemKnn
from recsys.rivals import fit_family

PART = "baselines"
ROUNDS = 3
FACTORS, EPOCHS, NEIGHBOURS = 64, 4, 100
IALS_AT_MOST, KNN_AT_MOST, MEMORY_AT_MOST = 1.2, 2.0, 4.0


@dataclass(frozen=True)
class Run:
    """What one fit took."""

    seconds: float
    """On the wall."""
    cpu_seconds: float
    """Of all threads."""
    peak_gb: float
    """Of the whole process."""
    titles: int
    interactions: float
    """Share of what was liked that falls on the titles covered."""


def our_ials(histories: Histories) -> object:
    """Ours: titles' factors only are kept."""
    return Ials.fit(histories, embedding_size=FACTORS, alpha=4.0, l2=30.0, epochs=EPOCHS)


def their_ials(histories: Histories) -> object:
    """As its documentation shows it."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=FACTORS, regularization=30.0, alpha=4.0, iterations=EPOCHS)
        model.fit(histories.positives().matrix(), show_progress=False)
    return model


def our_knn(histories: Histories) -> object:
    """Ours, over every title that has been liked."""
    return ItemKnn.fit(histories, neighbours=NEIGHBOURS, max_items=histories.n_items)


def their_knn(histories: Histories) -> object:
    """As its documentation shows it."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=NEIGHBOURS)
    model.fit(histories.positives().matrix(), show_progress=False)
    return model


def ease(histories: Histories) -> object:
    """As a night fits it."""
    return fit_family("ease", {}, histories)


def order_ridge(histories: Histories) -> object:
    """As a night fits it."""
    return fit_family("order_ridge", {}, histories)


def fit(model: Callable[[Histories], object], folder: Path) -> Run:
    """In the child: fit, and tell what it took."""
    histories = Histories.load(folder)
    began, worked = time.perf_counter(), time.process_time()
    fitted = model(histories)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    covered = coverage(fitted, histories) or {"titles": histories.n_items, "interactions": 1.0}  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Run(seconds, cpu, peak, covered["titles"], covered["interactions"])


def in_child(model: Callable[[Histories], object], folder: Path) -> Run:
    """Fit in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(fit, model, folder).result()


def against(
    what: str,
    ours: Callable[[Histories], object],
    theirs: Callable[[Histories], object],
    folder: Path,
    most: float,
) -> list[Row]:
    """Ours and the peer's in turn: the ratio of processor seconds, which other work on the machine hardly moves."""
    pairs = [(in_child(ours, folder), in_child(theirs, folder)) for _ in range(ROUNDS)]
    ratio = median(mine.cpu_seconds / peer.cpu_seconds for mine, peer in pairs)
    on_the_wall = median(mine.seconds / peer.seconds for mine, peer in pairs)
    peak = max(mine.peak_gb for mine, _ in pairs)
    detail = {"ours": [asdict(mine) for mine, _ in pairs], "peer": [asdict(peer) for _, peer in pairs]}
    detail |= {"on_the_wall": on_the_wall}
    return [
        Row(PART, f"{what}, processor time against implicit's", ratio, "×", f"<= {most:g}", ratio <= most, detail),
        _memory(what, peak),
    ]


def alone(what: str, model: Callable[[Histories], object], folder: Path) -> list[Row]:
    """What a dense model covers, and its peak of memory."""
    run = in_child(model, folder)
    words = f"{what}, share of the liked interactions on the titles it models"
    return [Row(PART, words, run.interactions, "", None, None, asdict(run)), _memory(what, run.peak_gb)]


def _memory(what: str, peak: float) -> Row:
    met = peak <= MEMORY_AT_MOST
    return Row(PART, f"{what}, peak RSS", peak, "GB", f"<= {MEMORY_AT_MOST:g}", met, {})


def measure(size: str) -> list[Row]:
    """All rows of a size: ``small``, ``1m``, ``5m`` or ``25m``."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        read_ratings(service(size).ratings).save(folder)
        return [
            *against(f"iALS fit, {FACTORS} factors", our_ials, their_ials, folder, IALS_AT_MOST),
            *against(f"item-kNN fit, {NEIGHBOURS} neighbours", our_knn, their_knn, folder, KNN_AT_MOST),
            *alone("EASE", ease, folder),
            *alone("order-aware ridge", order_ridge, folder),
        ]


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.baselines")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    for row in measure(parser.parse_args().size):
        print(f"{row.what:75s} {row.figure:10.3f} {row.unit:3s} {row.bound or '':8s} {row.met}")


if __name__ == "__main__":
    main()
