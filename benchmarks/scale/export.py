"""Exact top-100 lists of many users: against ``implicit``'s, against the bare products, its memory, and the writer.

Factors are drawn at random: what is timed does not hang on their values. Seen titles and titles that may not be listed
are left out by both. Rounds of each in turn, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import pyarrow as pa
from implicit.cpu.topk import topk

from benchmarks.quality.sources import ROOT
from benchmarks.scale.clock import Fairly
from benchmarks.scale.rows import Row
from recsys import columns
from recsys.data.ids import IdMap
from recsys.histories import Bools, Floats, Histories
from recsys.parallel import on_all_threads
from recsys.recommend import write_parts
from recsys.retrieval import retrieve, users_per_block
from recsys.topk import NO_ITEM

PART = "export"
TITLES, FACTORS, N, SEEN = 50_000, 128, 100, 100
HIDDEN = 0.05
"""Share of the titles that may not be listed."""
USERS = {"small": 4_000, "1m": 20_000, "5m": 60_000, "25m": 200_000}
MANY = {"small": 20_000, "1m": 20_000, "5m": 200_000, "25m": 1_000_000}
"""Users of the run that memory is taken of."""
ROUNDS = 5
BATCHES = (256, 512, 2_048)
"""Users per call of implicit's; the best one counts."""
FASTER, OF_THE_PRODUCT, MOST_MEMORY, KEEPS_UP = 1.5, 0.5, 1.5, 1.0


@dataclass(frozen=True)
class Factors:
    """Users and titles of a model, and what each user has seen: made block by block, as it is asked for."""

    n_users: int

    def __len__(self) -> int:
        return self.n_users

    def __getitem__(self, users: slice) -> Floats:
        """Users' vectors."""
        start, stop, _ = users.indices(self.n_users)
        return np.random.default_rng([1, start]).standard_normal((stop - start, FACTORS), np.float32)

    def select(self, users: slice) -> Histories:
        """What users have seen."""
        start, stop, _ = users.indices(self.n_users)
        rows = np.random.default_rng([2, start]).integers(0, TITLES // SEEN, (stop - start, SEEN), np.int32)
        items = (rows + np.arange(SEEN, dtype=np.int32) * (TITLES // SEEN)).ravel()
        indptr = np.arange(stop - start + 1) * SEEN
        return Histories(indptr, items, np.ones(len(items), np.float32), np.ones(len(items), bool), None, TITLES)

    @staticmethod
    def titles() -> Floats:
        """[TITLES, FACTORS]"""
        return np.random.default_rng(0).standard_normal((TITLES, FACTORS), np.float32)

    @staticmethod
    def listable() -> Bools:
        """[TITLES]"""
        return np.asarray(np.random.default_rng(3).random(TITLES) >= HIDDEN)


def measure(size: str) -> list[Row]:
    """Speed, memory and the writer's."""
    return [*speed_rows(USERS[size]), memory_row(MANY[size])]


def speed_rows(n_users: int) -> list[Row]:
    """Ours against implicit's and against the products alone, and the writer against ours."""
    how, each = Fairly.here(), n_users // ROUNDS
    users, titles, listable = Factors(each)[:], Factors.titles(), Factors.listable()
    seen = Factors(each).select(slice(0, each))
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: _count(retrieve(users, titles, N, seen=seen, listable=listable, threads=how.threads)),
        "product": lambda: _products(users, titles, how.threads),
    }
    sides |= {f"implicit_{batch}": _implicit(users, titles, seen, listable, batch, how.threads) for batch in BATCHES}
    with tempfile.TemporaryDirectory() as folder:
        lists = list(retrieve(users, titles, N, seen=seen, listable=listable, threads=how.threads))
        sides["writer"] = _writer(Path(folder), lists, each)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, run in sides.items():
                began = how.now()
                run()
                seconds[name].append(how.now() - began)
    best = min((f"implicit_{batch}" for batch in BATCHES), key=lambda name: median(seconds[name]))
    detail = {"users": each, "rounds": ROUNDS, "titles": TITLES, "factors": FACTORS, "n": N, "how": how.words,
              "users_per_second": {name: each / median(taken) for name, taken in seconds.items()}}  # fmt: skip

    def row(what: str, peer: str, ours: str, least: float) -> Row:
        figure = median(theirs / own for theirs, own in zip(seconds[peer], seconds[ours], strict=True))
        return Row(PART, what, figure, "×", f">= {least}", figure >= least, detail)

    return [
        row(f"top-{N} lists, users/s of ours ÷ of implicit's (best of {len(BATCHES)} batches)", best, "ours", FASTER),
        row(f"top-{N} lists, users/s of ours ÷ of the bare products", "product", "ours", OF_THE_PRODUCT),
        row("Parquet writer's rows/s, one thread ÷ rows/s that the lists come at", "ours", "writer", KEEPS_UP),
    ]


def _count(blocks: Iterator[tuple[int, Any, Any]]) -> int:
    return sum(len(items) for _, items, _ in blocks)


def _products(users: Floats, titles: Floats, threads: int) -> None:
    size = users_per_block(len(titles), 128)
    for _ in on_all_threads(
        lambda start: (users[start : start + size] @ titles.T).shape, range(0, len(users), size), threads
    ):
        pass


def _implicit(
    users: Floats, titles: Floats, seen: Histories, listable: Bools, batch: int, threads: int
) -> Callable[[], None]:
    matrix, hidden = seen.matrix(), np.flatnonzero(~listable).astype(np.int32)

    def run() -> None:
        for start in range(0, len(users), batch):
            rows = slice(start, start + batch)
            topk(titles, users[rows], N, filter_query_items=matrix[rows], filter_items=hidden, num_threads=threads)

    return run


def _writer(folder: Path, lists: list[tuple[int, Any, Any]], n_users: int) -> Callable[[], None]:
    names, items = (IdMap.of([f"{number:07d}" for number in range(many)]) for many in (n_users, TITLES))

    def tables() -> Iterator[pa.Table]:
        for first, found, scores in lists:
            rows, places = np.nonzero(found != NO_ITEM)
            same = {
                columns.REASON: pa.nulls(len(rows), pa.string()),
                columns.MODEL_VERSION: pa.repeat(pa.scalar("1"), len(rows)),
                columns.RUN_DATE: pa.repeat(pa.scalar(date(2026, 11, 24), pa.date32()), len(rows)),
            }
            given = {
                columns.USER_ID: names.external(first + rows),
                columns.RANK: pa.array((places + 1).astype(np.int16)),
                columns.ITEM_ID: items.external(found[rows, places]),
                columns.SCORE: pa.array(scores[rows, places]),
            }
            yield pa.table(given | same, schema=columns.RECOMMENDATIONS)

    return lambda: write_parts(folder, tables(), columns.RECOMMENDATIONS, (columns.USER_ID, columns.RANK))


def memory_row(n_users: int) -> Row:
    """The most memory that lists of so many users take, and of a quarter of them."""
    peaks = {number: _peak(number) for number in (n_users // 4, n_users)}
    what = f"peak memory of top-{N} lists for {n_users:,} users × {TITLES:,} titles"
    met = peaks[n_users] <= MOST_MEMORY
    return Row(PART, what, peaks[n_users], "GB", f"<= {MOST_MEMORY}", met, {"peak_gb_by_users": peaks})


def _peak(n_users: int) -> float:
    command = [sys.executable, "-m", "benchmarks.scale.export", "--lists-of", str(n_users)]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(json.loads(ended.stdout)["peak_gb"])


def _child(n_users: int) -> None:
    factors = Factors(n_users)
    blocks = retrieve(
        cast(Floats, factors), Factors.titles(), N, seen=cast(Histories, factors), listable=Factors.listable()
    )
    made = _count(blocks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps({"users": made, "peak_gb": peak / 1e9}))


def main() -> None:
    """Print the rows; in a child, make lists and tell what memory it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.export", description=__doc__)
    parser.add_argument("--size", default="1m", choices=list(USERS))
    parser.add_argument("--lists-of", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.lists_of:
        return _child(asked.lists_of)
    for row in measure(asked.size):
        print(f"{row.what}: {row.figure:.2f} {row.unit} ({row.bound}: {'met' if row.met else 'NOT MET'})")
        print("   ", row.detail)
    return None


if __name__ == "__main__":
    main()
