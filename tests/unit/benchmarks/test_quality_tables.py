"""The page of the quality benchmark: tables, bounds, plots and stored figures, from figures made up by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import results
from benchmarks.quality.bounds import bounds, signed
from benchmarks.quality.page import PAGE, write_page
from benchmarks.quality.tables import number, spread, table


def interval(mean: float, width: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def model(mean: float, rival: str | None, best: float) -> dict[str, Any]:
    against = None if rival is None else {"rival": rival, "ratio": mean / best, **interval(mean - best)}
    activity = {"1-9": {"users": 5, "targets": 20, "ndcg_at_10": mean, "recall_at_20": mean}}
    newness = {"cold": {"users": None, "targets": 0, "ndcg_at_10": None, "recall_at_20": None}}
    metrics = ("ndcg_at_10", "recall_at_20", "ndcg_at_100")
    return {
        "intervals": {metric: interval(mean) for metric in metrics},
        "against_best_rival": dict.fromkeys(metrics, against),
        "groups": {"activity": activity, "newness": newness},
    }


def ring_figures(ours: float, blend: float = 0.20) -> dict[str, Any]:
    return {
        "made": {"date": "2026-01-02", "code": "1.0", "machine": "a machine"},
        "rows": {"users": 1000, "titles": 500, "ratings": 12345},
        "compared": {
            "users": 900,
            "best_rival": {"ndcg_at_10": "ease"},
            "models": {"ease": model(0.2, None, 0.2), "ncf": model(ours, "ease", 0.2)},
        },
        "costs": {"ease": {"tried": 10, "seconds": 3.2, "peak_mb": 210}, "ncf": {"tried": 1, "seconds": None}},
        "ncf_against_blend": interval(ours - blend),
    }


def cold_figures(ratio: float) -> dict[str, Any]:
    def own(factor: float) -> dict[str, Any]:
        each = {"interval": interval(0.3 * factor), "against_ridge": interval(0.3 * (factor - 1)), "ratio": factor}
        return {"recall_at_20": each, "ndcg_at_10": each}

    words = {"ridge_decoder": "ridge", "content_cnn": "tower"}
    models = {"ridge_decoder": own(1.0), "content_cnn": own(ratio)}
    made = {"date": "2026-01-02", "code": "1.0", "machine": "a machine"}
    return {"made": made, "draws": 3, "titles": [70, 70, 70], "users": 400, "words": words, "models": models}


def curves() -> dict[str, Any]:
    own = {n: interval(0.1 + 0.01 * int(n)) for n in ("1", "3", "5", "10")}
    against = {n: {"rival": "ease", **interval(0.01)} for n in own}
    made = {"date": "2026-01-02", "code": "1.0", "machine": "a machine"}
    return {"made": made, "users": 120, "curves": {"ease": own, "ncf": own}, "served_against_best_rival": against}


@pytest.mark.parametrize(
    ("ours", "met"),
    [(0.219, False), (0.221, True), (0.30, True)],
)
def test_a_ratio_is_met_from_the_bound_on(ours: float, met: bool) -> None:
    found = {"ring": {"ml-latest-small": ring_figures(ours)}}
    first = next(iter(bounds(found)))
    assert first.met is met
    assert f"{ours / 0.2:.3f} × ease" in first.figure


def test_the_sample_needs_its_interval_above_0_too() -> None:
    figures = ring_figures(0.23)
    figures["compared"]["models"]["ncf"]["against_best_rival"]["ndcg_at_10"] |= interval(0.03, width=0.04)
    assert not next(iter(bounds({"ring": {"sample": figures}}))).met
    assert next(iter(bounds({"ring": {"synthetic": figures}}))).met


def test_ncf_has_to_be_above_its_blend_on_two_and_below_on_none() -> None:
    def last(*blends: float) -> bool:
        names = ("sample", "ml-latest-small", "sample-random", "synthetic")
        ring = {name: ring_figures(0.25, blend) for name, blend in zip(names, blends, strict=False)}
        return list(bounds({"ring": ring}))[-1].met

    assert last(0.22, 0.22, 0.25, 0.25)
    assert not last(0.22, 0.25, 0.25, 0.25)
    assert not last(0.22, 0.22, 0.22, 0.28)


@pytest.mark.parametrize(("ratio", "met"), [(1.04, False), (1.06, True)])
def test_the_content_tower_is_held_against_the_best_ridge(ratio: float, met: bool) -> None:
    assert next(iter(bounds({"cold": {"sample": cold_figures(ratio)}}))).met is met


def test_the_page_has_every_part_that_there_are_figures_for(tmp_path: Path) -> None:
    found = {
        "ring": {"sample": ring_figures(0.25)},
        "cold": {"sample": cold_figures(1.1)},
        "new-users": {"sample": curves()},
    }
    write_page(found, tmp_path)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "| **ncf** | .2500 [.2400, .2600] | .2500 | .2500 | 1.250 | +0.0500 [+0.0400, +0.0600] | 1 | – | – |" in page
    assert "| ease | .2000 [.1900, .2100] | .2000 | .2000 | – | the best rival | 10 | 3 | 210 |" in page
    assert "a machine; 2026-01-02; Marquee 1.0" in page
    assert "activity: 1-9" in page
    assert "newness: cold" not in page  # nobody to measure there
    assert "What each part of NCF brings" not in page
    for picture in ("ring", "cold", "new-users"):
        assert f"plots/{picture}.svg" in page
        text = (tmp_path / "docs" / "plots" / f"{picture}.svg").read_text(encoding="utf-8")
        assert "prefers-color-scheme:dark" in text
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "NDCG@10" in text or "recall@20" in text
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    write_page(found, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == first


def test_a_page_without_figures_says_so(tmp_path: Path) -> None:
    write_page({}, tmp_path)
    assert "There are no figures yet" in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_figures_are_kept_rounded_and_read_by_section_and_dataset(tmp_path: Path) -> None:
    results.keep("cold", "ml-latest-small-plots", {"a": [0.123456789], "b": {"c": 1}}, date(2026, 1, 2), tmp_path)
    found = results.load_all(tmp_path)["cold"]["ml-latest-small-plots"]
    assert found["a"] == [0.12346]
    assert found["b"] == {"c": 1}
    assert found["made"]["date"] == "2026-01-02"


def test_numbers_are_written_as_in_papers() -> None:
    assert [number(0.1234), number(-0.5, 2), number(1.5, 1), number(None)] == [".1234", "-.50", "1.5", "–"]
    assert spread(interval(0.1)) == ".1000 [.0900, .1100]"
    assert signed(interval(-0.1)) == "-0.1000 [-0.1100, -0.0900]"
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
