"""What a run looks like, with a terminal and without."""

from __future__ import annotations

import io

from rich.console import Console

from flows.display import showing, table
from flows.narration import duration, figures, sentence
from tasks.events import EpochEnded, Event, Note, RowsDone, StageEnded, StageStarted, emit

NIGHT: list[Event] = [
    StageStarted("autoencoder"),
    EpochEnded("autoencoder", 1, 2, {"loss": 0.43219, "ndcg_at_10": 0.2817}),
    RowsDone("autoencoder", 500, 1000, "users"),
    Note("autoencoder", "stopped early [patience]"),
    StageEnded("autoencoder", 75.0, 943, reused=False),
    StageStarted("ncf"),
    StageEnded("ncf", 0.1, None, reused=True),
    StageStarted("export"),
    StageEnded("export", 2.0, None, reused=False, error="disk full"),
]


def _shown(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120, highlight=False)
    with showing(console):
        for event in NIGHT:
            emit(event)
    emit(Note("later", "nobody listens"))
    return text.getvalue()


def test_without_a_terminal_there_are_plain_lines() -> None:
    text = _shown(terminal=False)
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.splitlines() == [
        "autoencoder: started",
        "autoencoder: epoch 1/2 loss 0.4322, ndcg_at_10 0.2817",
        "autoencoder: stopped early [patience]",
        "autoencoder: done in 75.0 s, 943 rows",
        "ncf: started",
        "ncf: reused",
        "export: started",
        "export: failed after 2.0 s: disk full",
    ]


def test_in_a_terminal_each_stage_leaves_a_line() -> None:
    text = _shown(terminal=True)
    assert "\x1b[" in text
    assert "1 min 15 s" in text
    assert "stopped early [patience]" in text
    assert "943 rows" in text
    assert "reused" in text
    assert "failed" in text
    assert "nobody listens" not in text


def test_progress_within_a_stage_is_told_now_and_then(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("flows.display._PLAIN_EVERY_SECONDS", 0.0)
    text = io.StringIO()
    with showing(Console(file=text)):
        emit(RowsDone("export", 10, None, "users"))
        emit(RowsDone("export", 20, 40, "users"))
    assert text.getvalue().splitlines() == ["export: 10 users", "export: 20 of 40 users"]


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0.4, 59.4, 60, 185, 7800)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
    ]


def test_figures_are_short() -> None:
    assert figures({"loss": 1234.5678, "ndcg": 0.000012345}) == "loss 1235, ndcg 1.234e-05"
    assert sentence(EpochEnded("a", 1, 3)) == "a: epoch 1/3"


def test_a_table_takes_text_as_it_is() -> None:
    text = io.StringIO()
    Console(file=text, width=80).print(table("T", [{"title": "[red]Alien[/red]", "score": "1"}], right=("score",)))
    assert "[red]Alien[/red]" in text.getvalue()
    Console(file=text).print(table("Empty", []))
