from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.ring_view import check_options, cost_rows, difference_rows, figure_rows, ring_view, title_rows
from recsys.errors import UsageError

METRICS = {"ndcg_at_10": "NDCG@10", "capped_recall_at_20": "recall / min(20, held-out)"}


def model(mean, rival=None):
    interval = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    less = None if rival is None else {"rival": rival, "mean": 0.1, "low": 0.05, "high": 0.15, "ratio": 1.5}
    group = {"users": 3, "targets": 4, "ndcg_at_10": 0.3, "recall_at_20": 0.25}
    unknown = dict.fromkeys(group)
    return {
        "intervals": dict.fromkeys(METRICS, interval),
        "against_best_rival": dict.fromkeys(METRICS, less),
        "groups": {"activity": {"1-9": group}, "popularity": {"head": group}, "newness": {"new": unknown}},
        "tried": None if rival else [{"params": {}, "ndcg_at_10": 0.1}] * 3,
        "seconds": {"tune": None if rival else 2.0, "fit": 125.0, "score": 0.25},
        "peak_rss_bytes": {"fit": 2_500_000_000, "score": None},
    }


@pytest.fixture
def report():
    ring = {
        "users": 1234,
        "confidence": 0.95,
        "metrics": METRICS,
        "best_rival": dict.fromkeys(METRICS, "ease"),
        "models": {"ease": model(0.2), "ncf": model(0.3, "ease")},
    }
    split = {"strategy": "random", "titles": 50}
    return {"ring": ring, "split": split, "left_out_models": {"sasrec": "it reads the order of time"}}


def test_rows(report):
    ring = report["ring"]
    assert [row["model"] for row in figure_rows(ring)] == ["ncf", "ease"]
    assert figure_rows(ring)[0]["recall / min(20, held-out)"] == "0.3000 [0.2900, 0.3100]"
    assert difference_rows(ring)[0]["NDCG@10 (ease)"] == "1.500× +0.1000\n[+0.0500, +0.1500]"
    assert difference_rows(ring)[1]["NDCG@10 (ease)"] == "–"
    assert title_rows(ring)[0] == {"model": "ncf", "head": "0.2500", "new": "–"}
    assert cost_rows(ring)[0] == {
        "model": "ncf", "settings tried": "–", "tune": "–", "fit": "2 min 05 s", "score": "0.2 s",
        "peak memory, fit": "2,500 MB", "peak memory, score": "–",
    }  # fmt: skip
    assert cost_rows(ring)[1]["settings tried"] == "3"


def test_the_whole_view(report):
    page = io.StringIO()
    ring_view(Console(file=page, width=140, highlight=False), report)
    text = page.getvalue()
    for piece in ("1,234 test users", "Against the best rival", "1-9 (3)", "What it took", "Left out: sasrec"):
        assert piece in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "a.csv"}, "--test is missing"),
        ({"test": "a.csv"}, "--train is missing"),
        ({"titles": "a.csv"}, "--titles goes with --train"),
        ({"train": "a", "test": "b", "split": "random"}, "--split goes with the configured source"),
        ({"split": "randm"}, "Did you mean random"),
        ({"split": "?"}, "Known are per-user-temporal, global-temporal"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(UsageError, match=message):
        check_options(**{"train": None, "test": None, "titles": None, "split": None, **options})


def test_options_that_do():
    assert check_options(train="a", test="b", titles="c", split=None) is None
    assert check_options(train=None, test=None, titles=None, split="strong-generalisation") == "strong-generalisation"
