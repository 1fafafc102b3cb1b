"""How much memory and time the evaluation of many users takes: the full ranking streams, in blocks of users.

    python -m benchmarks.evaluation_memory --users 160000 --titles 60000

measures made-up histories with a low-rank scorer (a product of 16 factors a user: cheap, so that the figures are those
of the evaluation). All scores at once would be users × titles × 4 bytes: 38 GB. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np

from recsys.evaluation import evaluate
from recsys.histories import Floats, Histories
from recsys.workers import peak_rss_bytes

RANK = 16
KNOWN, WANTED = 20, 5


@dataclass(frozen=True)
class LowRank:
    """Scores by factors of titles, of which a user's are the mean over the history."""

    factors: Floats
    """[n_items, RANK]"""

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self.factors)

    def scores(self, histories: Histories) -> Floats:
        """[n_users, n_items]"""
        return np.asarray((histories.matrix() @ self.factors) @ self.factors.T, np.float32)


def made_up(n_users: int, n_items: int, *, seed: int = 0) -> tuple[Histories, Histories]:
    """Histories of 20 titles a user, and five to foretell: drawn from strides, so that none occurs twice in a row."""
    rng = np.random.default_rng(seed)
    start, stride = rng.integers(n_items, size=(n_users, 1)), rng.integers(1, n_items // (KNOWN + WANTED), (n_users, 1))
    titles = ((start + stride * np.arange(KNOWN + WANTED)) % n_items).astype(np.int32)
    return _of(titles[:, :KNOWN], n_items), _of(titles[:, KNOWN:], n_items)


def _of(titles: np.ndarray[tuple[int, int], np.dtype[np.int32]], n_items: int) -> Histories:
    n_users, length = titles.shape
    n = n_users * length
    return Histories(
        indptr=np.arange(0, n + 1, length, dtype=np.int64),
        item_nums=titles.reshape(-1),
        ratings=np.full(n, np.nan, np.float32),
        positive=np.ones(n, np.bool_),
        timestamps=np.tile(np.arange(length, dtype=np.int64), n_users),
        n_items=n_items,
    )


def measure(n_users: int, n_items: int) -> dict[str, float]:
    """Evaluate, and tell what it took: seconds and the process's peak of memory, in bytes."""
    known, wanted = made_up(n_users, n_items)
    scorer = LowRank(np.random.default_rng(1).normal(size=(n_items, RANK)).astype(np.float32))
    before = peak_rss_bytes()
    began = time.monotonic()
    evaluation = evaluate(scorer, known, wanted)  # type: ignore[arg-type]
    return {
        "users": len(evaluation.users),
        "titles": n_items,
        "ndcg_at_10": round(evaluation.metrics["ndcg_at_10"], 6),
        "seconds": round(time.monotonic() - began, 1),
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_rss_bytes_before": before,
        "scores_at_once_bytes": n_users * n_items * 4,
    }


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=160_000)
    parser.add_argument("--titles", type=int, default=60_000)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.users, arguments.titles)))


if __name__ == "__main__":
    main()
