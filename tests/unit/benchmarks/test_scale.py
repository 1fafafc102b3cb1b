"""The benchmarks of size: bounds, exponents, the page, and parts that fail. No peer is measured here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.scale import __main__ as program
from benchmarks.scale import growth, kept, night, page, parts, plot
from benchmarks.scale.clock import Clock
from benchmarks.scale.data import SIZES
from benchmarks.scale.found import ndcg
from benchmarks.scale.histories import cut, read_ratings
from benchmarks.scale.references import (
    MultVae,
    NeuMf,
    Samples,
    mult_vae_scores,
    mult_vae_steps,
    neumf_scores,
    neumf_steps,
    until_no_better,
)
from benchmarks.scale.rows import Row
from recsys.histories import Histories

MADE = {
    "machine": {"cpu": "a cpu", "cores": 2, "memory_gb": 24},
    "command": "python -m benchmarks.scale",
    "date": "2026-11-24",
    "code": "0.1",
    "versions": {"python": "3.11"},
}


def stage(name: str, seconds: float, **more: Any) -> dict[str, Any]:
    base = {"stage": name, "seconds": seconds, "rows": 1_000, "rows_per_second": 10.0, "peak_rss_bytes": 2e9}
    return {**base, "cpu_seconds": 1.0, "cost": None, "reused": False, "error": None, **more}


def profile(size: str, minutes: float = 10, gigabytes: float = 5, **stages: float) -> dict[str, Any]:
    return {
        "size": size, "made": MADE, "seconds": minutes * 60, "peak_rss_bytes": gigabytes * 1e9, "cpu_seconds": 5.0,
        "exit_code": 0, "failure": None, "decision": "it is better", "rows": {}, "metrics": {},
        "stages": [stage(name, seconds) for name, seconds in stages.items()],
    }  # fmt: skip


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    grown = growth.growth("ncf", {"1m": 10.0, "5m": 50.0, "25m": 250.0})
    assert (grown.exponent, grown.by_difference, grown.met) == (pytest.approx(1.0), False, True)
    steep = growth.growth("ncf", {"1m": 10.0, "5m": 10.0 * 5**1.2, "25m": 10.0 * 25**1.2})
    assert steep.segments == pytest.approx((1.2, 1.2))
    assert steep.met is False


def test_set_up_drops_out_of_the_exponent_of_a_short_stage() -> None:
    grown = growth.growth("ingest", {"1m": 1 + 0.5, "5m": 1 + 0.5 * 5**1.1, "25m": 1 + 0.5 * 25**1.1})
    assert grown.by_difference
    assert grown.exponent == pytest.approx(1.1)
    noise = growth.growth("split", {"1m": 0.5, "5m": 0.6, "25m": 9.0})
    assert noise.exponent == noise.segments[-1], "a difference of a tenth of a second says nothing"
    assert growth.growth("audit", {"1m": 0.1, "5m": 0.1, "25m": 4.0}).met is None, "too short to be held to anything"


def test_stages_that_were_reused_or_failed_do_not_grow() -> None:
    nights = {size: profile(size, ingest=t, ncf=t) for size, t in (("1m", 3.0), ("5m", 15.0), ("25m", 75.0))}
    nights["5m"]["stages"][1]["reused"] = True
    assert [each.stage for each in growth.growths(nights)] == ["ingest", growth.WHOLE]


def test_growth_wants_every_night(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "nights", lambda: {"1m": profile("1m", ncf=3)})
    with pytest.raises(RuntimeError, match="no night of 5m, 25m yet"):
        growth.measure()


def test_a_night_is_held_against_an_hour_and_eight_gigabytes() -> None:
    assert [row.met for row in night.rows("25m", profile("25m", 59, 7.9))] == [True, True]
    assert [row.met for row in night.rows("25m", profile("25m", 61, 8.1))] == [False, False]
    assert [row.bound for row in night.rows("1m", profile("1m"))] == [None, None]
    reused = profile("25m", ncf=1.0)
    reused["stages"][0]["reused"] = True
    assert [row.met for row in night.rows("25m", reused)] == [False, False], "it proves no time"


def test_the_page_has_rows_nights_and_growth(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    rows = [
        Row("export", "users/s against a peer", 1.234, "×", ">= 1.5", False, {}),
        Row("export", "users/s", 12_345.6, "users/s", None, None, {}),
    ]
    kept.keep_part("1m", "export", rows, 3.0, None, kept.rows_path("1m", results))
    kept.keep_part("1m", "ingest", [], 3.0, "ImportError: no", kept.rows_path("1m", results))
    for size, seconds in (("1m", 3.0), ("5m", 15.0), ("25m", 75.0)):
        kept.keep_night(size, profile(size, ncf=seconds), results)
    page.write_page(tmp_path, results)
    text = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    assert "| export: users/s against a peer | 1.23 × | >= 1.5 | **NOT MET** |" in text
    assert "| export: users/s | 12,346 users/s |  |  |" in text
    assert "**ingest failed**: ImportError: no" in text
    assert "## A night of 25,000,000 ratings" in text
    assert "| ncf | 3.0 | 15.0 | 75.0 | 1.00 | 1.00 | 1.00 | <= 1.15 | met |" in text
    assert "prefers-color-scheme" in (tmp_path / page.PLOT).read_text(encoding="utf-8")


def test_a_part_keeps_the_place_of_the_last_time(tmp_path: Path) -> None:
    path = tmp_path / "scale-1m.json"
    for figure in (1.0, 2.0):
        kept.keep_part("1m", "export", [Row("export", "a", figure, "", None, None, {})], 1.0, None, path)
    kept.keep_part("1m", "ingest", [], 1.0, None, path)
    found = json.loads(path.read_text())["parts"]
    assert list(found) == ["export", "ingest"]
    assert [row.figure for row in kept.rows_of(found["export"])] == [2.0]


def test_without_figures_there_is_only_the_head(tmp_path: Path) -> None:
    page.write_page(tmp_path, tmp_path / "none")
    assert "## " not in (tmp_path / page.PAGE).read_text(encoding="utf-8")
    assert not plot.write_growth([], tmp_path / "growth.svg")


def test_a_part_that_is_missing_is_said_in_one_line() -> None:
    found = parts.run_part("nothing_of_that_name", "small")
    assert found.rows == []
    assert found.error == "ModuleNotFoundError: No module named 'benchmarks.scale.nothing_of_that_name'"


@pytest.mark.parametrize(("met", "error", "code"), [(True, None, 0), (False, None, 1), (None, "it broke", 1)])
def test_the_exit_code_says_whether_all_is_met(
    met: bool | None,
    error: str | None,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = Row("export", "users/s", 2.0, "×", ">= 1.5", met, {})
    monkeypatch.setattr(program, "service", lambda size: None)
    monkeypatch.setattr(program, "run_part", lambda part, size, home: parts.Measured(part, [row], 1.0, error))
    monkeypatch.setattr(program, "write_page", lambda root: None)
    monkeypatch.setattr(kept, "nights", dict)
    assert program.main(["export", "--out", str(tmp_path / "out.json")]) == code
    said = capsys.readouterr().out
    assert ("NOT MET" in said) is (met is False)
    assert ("export FAILED: it broke" in said) is (error is not None)
    assert json.loads((tmp_path / "out.json").read_text())["parts"]["export"]["error"] == error


def histories(n_users: int = 30, n_items: int = 24) -> Histories:
    """Users of three tastes: each likes most of a third of the titles."""
    rng, third = np.random.default_rng(0), n_items // 3
    return Histories.of_lists(
        [(rng.permutation(third)[:6] + third * (u % 3)).tolist() for u in range(n_users)], n_items
    )


def test_a_file_is_cut_into_what_is_known_and_what_was_liked_after(tmp_path: Path) -> None:
    lines = [
        "userId,movieId,rating,timestamp",
        "7,30,4.0,50",
        "7,10,2.0,10",
        "7,20,5.0,20",
        "7,40,1.0,30",
        "7,50,4.5,40",
    ]
    (tmp_path / "ratings.csv").write_text("\n".join([*lines, "9,10,5.0,1"]) + "\n")
    known, wanted = cut(read_ratings(tmp_path / "ratings.csv"))
    assert known.item_nums.tolist() == [0, 1, 3, 4, 0]
    assert known.positive.tolist() == [False, True, False, True, True]
    assert (wanted.item_nums.tolist(), wanted.lengths.tolist()) == ([2], [1, 0])


def test_the_references_learn_what_is_planted() -> None:
    known, wanted = cut(histories(), 0.34)
    matrix, rng = known.matrix(), np.random.default_rng(0)
    torch.manual_seed(0)
    vae = MultVae(24, 16, 8, dropout=0.2)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    seen = [sum(mult_vae_steps(vae, optimizer, matrix, batch_size=8, rng=rng)) for _ in range(40)]
    assert set(seen) == {matrix.nnz}
    neumf = NeuMf(30, 24, gmf_size=8, mlp_size=8, hidden_size=16)
    optimizer, samples = torch.optim.Adam(neumf.parameters(), lr=1e-2), Samples(matrix, rng)
    for _ in range(30):
        samples.draw()
        assert sum(neumf_steps(neumf, optimizer, samples, batch_size=64)) == len(samples)
    chance = ndcg(rng.random((30, 24), dtype=np.float32), known, wanted)
    assert ndcg(mult_vae_scores(vae, matrix), known, wanted) > 2 * chance
    assert ndcg(neumf_scores(neumf, 30, 24), known, wanted) > 1.5 * chance


def test_a_reference_trains_until_its_validation_stops() -> None:
    figures = iter([0.1, 0.3, 0.2, 0.2, 0.2])
    told = until_no_better(lambda: None, lambda: next(figures), patience=2, seconds=60)
    assert (told["ndcg_at_10"], told["epoch"], told["epochs"], told["stopped"]) == (0.3, 2, 4, True)
    assert until_no_better(lambda: None, lambda: 0.0, patience=2, seconds=0)["stopped"] is False


def test_the_clock_tells_waiting_from_work() -> None:
    clock = Clock()
    for _ in clock.over(iter(lambda: time.sleep(0.02), 0)):  # batches that take a while to make
        time.sleep(0.06)
        if len(clock.worked) == 3:
            break
    assert 0.6 < clock.compute_share < 0.9
    assert clock.seconds == pytest.approx(sum(clock.waited) + sum(clock.worked))


def test_the_sizes_are_those_of_the_brief() -> None:
    assert (SIZES["25m"].ratings, SIZES["25m"].users, SIZES["25m"].titles) == (25_000_000, 162_000, 59_000)
