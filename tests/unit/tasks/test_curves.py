"""Curves are one well-formed SVG without anything active in it."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from tasks.registry.curves import curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(text: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(text)
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in line.attrib["points"].split())]
        for line in root.iter(f"{SVG}polyline")
    ]


def test_one_panel_per_figure_and_higher_is_up() -> None:
    text = curves_svg("ncf", [{"loss": 3.0, "ndcg_at_10": 0.1}, {"loss": 2.0, "ndcg_at_10": 0.2}])
    loss, ndcg = lines_of(text)
    assert loss[0][0] < loss[1][0]
    assert loss[0][1] < loss[1][1]  # falls: further down is a larger y
    assert ndcg[0][1] > ndcg[1][1]
    assert max(y for _, y in loss) < min(y for _, y in ndcg)  # panels do not overlap


def test_a_figure_that_is_not_finite_leaves_a_gap() -> None:
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 2.0, 1.0]
    assert [len(line) for line in lines_of(curves_svg("ae", [{"loss": value} for value in values]))] == [2, 2, 2]


@pytest.mark.parametrize("epochs", [[], [{"loss": 1.0}], [{"loss": 1.0}, {"loss": 1.0}], [{"loss": math.nan}]])
def test_few_and_flat_curves_are_drawn(epochs: list[dict[str, float]]) -> None:
    text = curves_svg("ae", epochs)
    ElementTree.fromstring(text)
    assert "nan" not in text


def test_names_are_escaped() -> None:
    text = curves_svg("<script>alert(1)</script>", [{"<b>": 1.0}])
    assert "<script>" not in text
    assert "<b>" not in text
