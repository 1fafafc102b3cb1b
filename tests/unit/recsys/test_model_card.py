"""The card says what a model is, how good and against what, whose data, and how to load it."""

from __future__ import annotations

from datetime import date

import pytest

from recsys.bundle import BundleInfo, Comparison, SplitFacts
from recsys.model_card import model_card


def info(**changes: object) -> BundleInfo:
    facts = {
        "family": "ncf",
        "run_date": date(2026, 11, 20),
        "seed": 3,
        "ordered": True,
        "positive_from": 4.0,
        "split": SplitFacts(strategy="per-user-temporal", test_fraction=0.2, validation_fraction=0.25, seed=0),
        "metrics": {"ndcg_at_10": 0.31, "recall_at_20": 0.25},
        "rivals": {"popularity": {"ndcg_at_10": 0.12}, "ease": {"ndcg_at_10": 0.33, "coverage_at_10": 0.5}},
        "comparisons": (
            Comparison(rival="popularity", metric="ndcg_at_10", difference=0.19, low=0.15, high=0.23),
            Comparison(rival="ease", metric="ndcg_at_10", difference=-0.02, low=-0.03, high=-0.01),
            Comparison(rival="ials", metric="ndcg_at_10", difference=0.0, low=-0.01, high=0.01, confidence=0.9),
        ),
        "n_users": 1943,
        "n_items": 1682,
        "licence": "GroupLens",
        "citation": "Harper and Konstan,\n  2015",
    }
    return BundleInfo.model_validate({**facts, **changes})


def test_it_says_what_and_whose_and_how_good() -> None:
    card = model_card(info(), model_name="marquee", digest="d1", reason="It won.")
    assert card.startswith("# marquee: ncf, 2026-11-20\n")
    for told in (
        "1,943 users, 1,682 titles, histories in time order",
        "Licence: GroupLens.",
        "Cite: Harper and Konstan, 2015",
        "per-user-temporal, 20% test, 25% of the rest validation",
        'load_model("models:/marquee@champion")',
        "It won.",
        "Bundle d1, seed 3.",
    ):
        assert told in card


def test_the_figures_are_ranked_with_gaps_where_there_are_none() -> None:
    rows = [line for line in model_card(info(), model_name="m", digest="d").splitlines() if line.startswith("|")]
    assert rows == [
        "| model | ndcg_at_10 | recall_at_20 | coverage_at_10 |",
        "|---|---|---|---|",
        "| ease | 0.3300 | – | 0.5000 |",
        "| **ncf** | 0.3100 | 0.2500 | – |",
        "| popularity | 0.1200 | – | – |",
    ]


def test_intervals_are_put_in_words() -> None:
    card = model_card(info(), model_name="m", digest="d")
    assert "- popularity: ndcg_at_10 +0.1900 [+0.1500, +0.2300] at 95%, paired on users: better." in card
    assert "[-0.0300, -0.0100] at 95%, paired on users: worse." in card
    assert "at 90%, paired on users: not told apart." in card


@pytest.mark.parametrize("family", ["popularity", "a-new-one"])
def test_what_is_not_known_is_left_out_or_said(family: str) -> None:
    bare = info(family=family, metrics={}, rivals={}, comparisons=(), licence=None, citation=None, ordered=False)
    card = model_card(bare, model_name="m", digest="d")
    assert "not stated by the source" in card
    assert "the split is random" in card
    assert "## Against" not in card
    assert "## Decision" not in card
    assert "|" not in card
