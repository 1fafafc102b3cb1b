"""A run's manifest as people read it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from flows import report, servers, views

MANIFEST: dict[str, Any] = {
    "run_id": "r1",
    "run_date": "2026-11-24",
    "stages": [
        {"stage": "tracking", "rows": None, "seconds": 0.5, "details": {"run_id": "m1", "experiment_id": "1"}},
        {
            "stage": "ingest",
            "rows": 100_000,
            "seconds": 1.26,
            "reused": True,
            "error": None,
            "peak_rss_bytes": 312_000_000,
            "rows_per_second": None,
        },
        {
            "stage": "ncf",
            "rows": 1_220,
            "seconds": 61.0,
            "reused": False,
            "error": None,
            "peak_rss_bytes": 1_940_000_000,
            "rows_per_second": 20.0,
        },
        {"stage": "export", "rows": None, "seconds": 0.0, "reused": False, "error": "disk full"},
    ],
    "quarantined": 3,
    "metrics": {
        "popularity": {"ndcg_at_10": 0.1, "coverage_at_10": 0.01},
        "ncf": {"ndcg_at_10": 0.31234, "coverage_at_10": 0.4},
        "ease": {"ndcg_at_10": 0.29, "coverage_at_10": None},
    },
    "decision": {"outcome": "promote", "winner": "ncf", "reason": "better by 0.02"},
    "publication": {"generation": "abc", "rows": 18_860, "path": "/x", "model_version": "4"},
}


def test_stages_are_rows_with_their_cost() -> None:
    nothing = {"rows/s": "", "memory": ""}
    assert report.stage_rows(MANIFEST) == [
        {"stage": "tracking", "rows": "", "time": "0.5 s", **nothing, "": ""},
        {"stage": "ingest", "rows": "100,000", "time": "1.3 s", "rows/s": "", "memory": "312 MB", "": "reused"},
        {"stage": "ncf", "rows": "1,220", "time": "1 min 01 s", "rows/s": "20", "memory": "1.9 GB", "": ""},
        {"stage": "export", "rows": "", "time": "0.0 s", **nothing, "": "failed"},
    ]


def test_what_a_run_took_is_a_line() -> None:
    assert (
        report.cost_line({"seconds": 75.2, "peak_rss_bytes": 1_940_000_000})
        == "1 min 15 s in all, at most 1.9 GB of memory"
    )
    assert report.cost_line({"seconds": 3.0}) == "3 s in all"
    assert report.cost_line({}) == ""
    assert "\n- 3 s in all\n- published" in report.markdown({**MANIFEST, "seconds": 3.0})


def test_models_are_ranked_and_the_winner_marked() -> None:
    rows = report.metric_rows(MANIFEST)
    assert [row["model"] for row in rows] == ["ncf ★", "ease", "popularity"]
    assert rows[0] == {"model": "ncf ★", "ndcg_at_10": "0.3123", "coverage_at_10": "0.4000"}
    assert rows[1]["coverage_at_10"] == ""
    assert report.metric_rows({}) == []
    assert report.metric_rows({"metrics": {"a": {"auc": 0.5}}}) == [{"model": "a", "auc": "0.5000"}]


@pytest.mark.parametrize(
    ("outcome", "words", "kept"),
    [
        ("promote", "There is a new champion.", False),
        ("first", "There is a first champion.", False),
        ("keep", "The champion stays.", True),
        ("unchanged", "The champion serves again.", False),
    ],
)
def test_the_decision_is_told_by_its_reason_alone(outcome: str, words: str, kept: bool) -> None:
    manifest = {"decision": {"outcome": outcome, "reason": "ncf is promoted: it is better."}}
    assert report.decision_line(manifest) == "ncf is promoted: it is better."
    assert report.decision_line({"decision": {"outcome": outcome, "reason": ""}}) == words
    assert report.kept(manifest) is kept


def test_what_the_gate_found_is_a_row_per_candidate() -> None:
    guardrails = [{"text": "it collapsed", "passed": False}, {"text": "all well", "passed": True}]
    verdicts = [
        {"family": "ncf", "value": 0.3, "guardrails": guardrails, "against_champion": None},
        {
            "family": "ease",
            "value": 0.25,
            "guardrails": guardrails[1:],
            "against_champion": {"mean": 0.01, "low": -0.002, "high": 0.02},
        },
    ]
    assert report.gate_rows({"decision": {"metric": "ndcg_at_10", "verdicts": verdicts}}) == [
        {"model": "ncf", "ndcg_at_10": "0.3000", "against the champion": "", "refused for": "it collapsed"},
        {
            "model": "ease",
            "ndcg_at_10": "0.2500",
            "against the champion": "+0.0100 [-0.0020, +0.0200]",
            "refused for": "",
        },
    ]
    assert report.gate_rows({}) == []


def test_a_run_that_did_not_decide_says_so() -> None:
    assert "No decision" in report.decision_line({"decision": None})
    assert report.kept({"decision": None}) is False


def test_the_markdown_names_what_was_published_and_where_to_look() -> None:
    text = report.markdown(MANIFEST)
    assert "## Decision: promote\nbetter by 0.02\n\n- run" in text
    assert "3 rows quarantined" in text
    assert "`abc`: 18,860 rows" in text
    assert "run m1" in text
    remote = {
        "stage": "tracking",
        "rows": None,
        "seconds": 0.5,
        "details": {"run_id": "m1", "url": "http://x:5000/#/y"},
    }
    assert "](http://x:5000/#/y)" in report.markdown({**MANIFEST, "stages": [remote]})


def test_a_night_is_linked_where_our_own_mlflow_shows_it(tmp_path: Path) -> None:
    ourselves = psutil.Process()
    server = servers.Server(pid=ourselves.pid, began=ourselves.create_time(), url="http://127.0.0.1:5000", log="")
    (tmp_path / "servers").mkdir()
    record = servers.Servers(servers={servers.MLFLOW: server})
    (tmp_path / "servers" / "servers.json").write_text(record.model_dump_json(), encoding="utf-8")
    manifest = {**MANIFEST, "home": str(tmp_path)}
    assert report.mlflow_link(manifest) == "http://127.0.0.1:5000/#/experiments/1/runs/m1"


def test_cells_and_records_read_well() -> None:
    assert [views.cell(v) for v in (None, 0.12345, {"a": 0.5}, [1, "b"], "x")] == [
        "",
        "0.1235",
        "a 0.5000",
        "1, b",
        "x",
    ]
    text = io.StringIO()
    views.record_view(Console(file=text, width=80), {"version": "3", "[b]": "[i]x"})
    assert text.getvalue().splitlines() == ["version            3", "[b]                [i]x"]


def test_a_comparison_shows_both_and_the_interval() -> None:
    text = io.StringIO()
    comparison = {
        "a": {"version": "1", "family": "ease"},
        "b": {"version": "2", "family": "ncf"},
        "metrics": {"ndcg_at_10": (0.3, 0.32), "mrr_at_10": (None, 0.4)},
        "metric": "ndcg_at_10",
        "users": 943,
        "difference": 0.02,
        "low": 0.01,
        "high": 0.03,
        "confidence": 0.95,
        "verdict": "version 2 is better than version 1",
        "notes": ("other nights",),
    }
    views.comparison_view(Console(file=text, width=100), comparison)
    shown = text.getvalue()
    assert "version 1 (ease)" in shown
    assert "0.3000" in shown
    assert "ndcg_at_10: +0.0200 [+0.0100, +0.0300] at 95%, 943 users, b less a" in shown
    assert "Note: other nights" in shown


RUN: dict[str, Any] = {
    "run_id": "20261124-010203-abcd",
    "run_date": "2026-11-24",
    "status": "FINISHED",
    "seconds": 125.0,
    "metrics": {"ndcg_at_10": 0.3},
    "tags": {},
    "decision": {
        "outcome": "keep",
        "serves": "ease",
        "metric": "ndcg_at_10",
        "difference": -0.001,
        "difference_low": -0.004,
        "difference_high": 0.002,
        "brief": "equal within chance",
        "reason": "The champion stays: [b]ncf[/] may be worse.",
    },
}
FAILED = {**RUN, "run_id": "b", "status": "FAILED", "seconds": None, "metrics": {}, "decision": None}


def test_runs_are_rows_with_what_was_decided_and_why() -> None:
    assert report.run_rows([RUN, FAILED]) == [
        {
            "run": "20261124-010203-abcd",
            "night": "2026-11-24",
            "time": "2 min 05 s",
            "outcome": "keep",
            "serves": "ease",
            "ndcg_at_10": "0.3000",
            "difference": "-0.0010 [-0.0040, +0.0020]",
            "why": "equal within chance",
        },
        {
            "run": "b",
            "night": "2026-11-24",
            "time": "",
            "outcome": "failed",
            "serves": "",
            "ndcg_at_10": "",
            "difference": "",
            "why": "",
        },
    ]


def test_the_last_decision_is_told_beneath_the_runs() -> None:
    text = io.StringIO()
    console = Console(file=text, width=140)
    views.runs_view(console, [FAILED, RUN])
    assert "equal within chance" in text.getvalue()
    assert text.getvalue().endswith("The last decision: The champion stays: [b]ncf[/] may be worse.\n")
    views.runs_view(console, [])
    assert "`marquee nightly` makes one" in text.getvalue()


def test_a_night_is_summed_up_by_its_best_model() -> None:
    figures, tags = report.night_figures(MANIFEST)
    assert figures == {"ndcg_at_10": 0.31234, "coverage_at_10": 0.4}
    assert tags == {"marquee.outcome": "promote", "marquee.best": "ncf", "marquee.generation": "abc"}
    kept = {**MANIFEST, "decision": {"outcome": "keep", "winner": None, "challenger": "ease", "reason": ""}}
    assert report.night_figures(kept)[0] == {"ndcg_at_10": 0.29}
    assert report.night_figures({"decision": None}) == ({}, {})
