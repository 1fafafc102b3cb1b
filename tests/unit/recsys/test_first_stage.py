"""The first stage: z-scores, weights, candidates, cold titles, saving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ArtefactError
from recsys.first_stage import COLD_WEIGHT, CONTENT, Blend, default_weights, fit_blend, load_towers
from recsys.histories import Floats, Histories
from recsys.models.baselines import Popularity
from recsys.models.linear import Ease
from recsys.scoring import Scorer
from recsys.title_statistics import cold_titles

N_ITEMS = 12


class Table:
    """A tower with a fixed row of scores for everyone."""

    def __init__(self, row: Floats) -> None:
        self.row = row.astype(np.float32)

    @property
    def n_items(self) -> int:
        return len(self.row)

    def scores(self, histories: Histories) -> Floats:
        return np.tile(self.row, (histories.n_users, 1))


def towers(**rows: Floats) -> dict[str, Scorer]:
    return {name: Table(row) for name, row in rows.items()}  # type: ignore[misc]


def blend(tables: Mapping[str, Scorer], weights: dict[str, float], cold: list[int] | None = None) -> Blend:
    mask = np.zeros(N_ITEMS, np.bool_)
    mask[cold or []] = True
    return Blend(tables, weights, mask)


RISING = np.arange(N_ITEMS, dtype=np.float32)


def test_zscores_are_over_the_unseen_warm_titles() -> None:
    scored = blend(towers(a=RISING), {"a": 2.0}, cold=[0]).scored(Histories.of_lists([[11, 10]], N_ITEMS))
    among = RISING[1:10]
    assert np.allclose(scored.zscores["a"][0], (RISING - among.mean()) / among.std(), atol=1e-5)
    assert np.allclose(scored.blend, 2 * scored.zscores["a"])


def test_zscores_of_scores_far_from_nought() -> None:
    scores = (1e4 + np.random.default_rng(0).standard_normal(N_ITEMS)).astype(np.float32)
    scored = blend(towers(a=scores), {"a": 1.0}).scored(Histories.of_lists([[3], []], N_ITEMS))
    for row, seen in zip(scored.zscores["a"], ([3], []), strict=True):
        among = np.delete(scores, seen).astype(np.float64)
        assert np.allclose(row, (scores - among.mean()) / among.std(), atol=1e-2)


def test_candidates_are_the_best_unseen() -> None:
    model = blend(towers(a=RISING), {"a": 1.0})
    scored = model.scored(Histories.of_lists([[11, 9], list(range(11)), []], N_ITEMS))
    assert model.candidates(scored, 3).tolist() == [[10, 8, 7], [11, -1, -1], [11, 10, 9]]


def test_a_cold_title_is_blended_by_content_and_has_its_place_among_candidates() -> None:
    liked = np.linspace(1, 2, N_ITEMS)
    content = np.linspace(0, 1, N_ITEMS)
    content[0], content[1] = 0.6, 0.7
    model = blend(towers(a=liked, **{CONTENT: content}), {"a": 1.0, CONTENT: 0.0}, cold=[0, 1])
    scored = model.scored(Histories.of_lists([[2]], N_ITEMS))
    assert np.allclose(scored.blend[0, [0, 1]], COLD_WEIGHT * scored.zscores[CONTENT][0, [0, 1]])
    found = model.candidates(scored, 3)[0].tolist()
    assert found[0] == 1  # one of three candidates is the best cold title
    assert found[1:] == [11, 10]
    seen = model.candidates(model.scored(Histories.of_lists([[0, 1]], N_ITEMS)), 3)[0].tolist()
    assert seen == [11, 10, 9]


def test_without_content_cold_titles_are_scored_and_finite() -> None:
    model = blend(towers(a=RISING), {"a": 1.0}, cold=[3])
    assert np.isfinite(model.scores(Histories.of_lists([[], [1]], N_ITEMS))).all()
    assert model.scores(Histories.of_lists([], N_ITEMS)).shape == (0, N_ITEMS)


def test_the_search_finds_the_tower_that_knows() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(N_ITEMS - 2)[:3].tolist() for _ in range(40)]
    histories, targets = Histories.of_lists(rows, N_ITEMS), Histories.of_lists([[10, 11]] * 40, N_ITEMS)
    tables = towers(ease=rng.normal(size=N_ITEMS), order_ridge=RISING, user_autoencoder=rng.normal(size=N_ITEMS))
    found = fit_blend(tables, cold_titles(histories.where(histories.positive)), histories, targets)
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-3)
    # titles 10 and 11 are cold here: nothing can be learned of them, so the start stays
    assert found.weights == default_weights(tables, ordered=True)
    warm = fit_blend(tables, np.zeros(N_ITEMS, np.bool_), histories, targets)
    top = warm.candidates(warm.scored(histories), 2)
    assert (np.sort(top, axis=1) == [10, 11]).all()
    assert warm.weights["order_ridge"] > 0.2


@pytest.mark.parametrize(
    ("names", "ordered", "expected"),
    [
        (("user_autoencoder", "order_ridge", "ease"), True, {"user_autoencoder": 0.8, "order_ridge": 0.2, "ease": 0}),
        (("user_autoencoder", "ease"), False, {"user_autoencoder": 0.7, "ease": 0.3}),
        (("ease", CONTENT), True, {"ease": 1.0, CONTENT: 0.0}),
        ((CONTENT,), True, {CONTENT: 1.0}),
    ],
)
def test_where_the_search_begins(names: tuple[str, ...], ordered: bool, expected: dict[str, float]) -> None:
    assert default_weights(dict.fromkeys(names, Table(RISING)), ordered=ordered) == expected  # type: ignore[arg-type]


def real(histories: Histories) -> dict[str, Scorer]:
    return {"ease": Ease.fit(histories, l2=5), "popularity": Popularity.fit(histories)}


def test_it_is_a_scorer(check_scorer: Callable[..., Scorer]) -> None:
    def fit(histories: Histories, seed: int) -> Scorer:
        return Blend(real(histories), {"ease": 0.9, "popularity": 0.1}, cold_titles(histories))

    check_scorer(fit, cold_last=False)


def test_saved_towers_are_linked_not_written_again(tmp_path: Path) -> None:
    histories = Histories.of_lists([[0, 1], [1, 2]], N_ITEMS)
    model = Blend(real(histories), {"ease": 1.0, "popularity": 0.0}, cold_titles(histories))
    model.towers["ease"].save(tmp_path / "ease")
    model.save(tmp_path / "blend", {"ease": tmp_path / "ease"})
    linked = tmp_path / "blend" / "towers" / "ease" / "model.safetensors"
    assert linked.samefile(tmp_path / "ease" / "model.safetensors")
    assert np.array_equal(Blend.load(tmp_path / "blend").scores(histories), model.scores(histories))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="blend"):
        Blend.load(tmp_path)
    with pytest.raises(ArtefactError, match="towers"):
        load_towers(tmp_path)
