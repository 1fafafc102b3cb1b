from __future__ import annotations

import json

import numpy as np
import pytest

from recsys import columns, rivals
from recsys.config import BaselinesConfig
from recsys.cooccurrence import covered_titles, gram, sample_users
from recsys.data.ids import IdMap
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.errors import ConfigError
from recsys.evaluation import evaluate
from recsys.histories import Histories
from recsys.rivals import (
    FAMILIES,
    chosen_params,
    families_to_run,
    fit_family,
    fit_rivals,
    load_family,
    tune,
)
from recsys.tracker import NullTracker


def walks(n_users=120, n_items=40, *, ordered=True, seed=0):
    """Users walk through a ring of titles: what comes next is told by what came last. (interactions, part)."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_users):
        steps = rng.choice([1, 2, 3], rng.integers(8, 16))
        rows.append((rng.integers(0, n_items) + np.cumsum(steps)) % n_items)
    histories = Histories.of_lists(rows, n_items + 2, ordered=ordered)
    place = np.arange(len(histories.item_nums)) - np.repeat(histories.indptr[:-1], histories.lengths)
    share = place / np.repeat(histories.lengths, histories.lengths)
    part = np.where(share < 0.6, TRAIN, np.where(share < 0.8, VALIDATION, TEST)).astype(np.int8)
    return histories, part


def split_of(histories, part):
    users = IdMap.of([f"u{number:04d}" for number in range(histories.n_users)])
    items = IdMap.of([f"i{number:04d}" for number in range(histories.n_items)])
    return Split(users, items, histories, part, columns.TITLES.empty_table(), "per-user-temporal")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rivals")
    split = split_of(*walks())
    return split, folder, fit_rivals(split, folder, BaselinesConfig(), seed=3, tracker=NullTracker())


def test_every_family_is_tuned_fitted_twice_and_comes_back(fitted):
    split, folder, report = fitted
    assert list(report) == list(FAMILIES)
    written = json.loads((folder / "baselines.json").read_text())
    for name in FAMILIES:
        best = max(setting["ndcg_at_10"] for setting in written[name]["tried"])
        assert report[name]["validation"]["ndcg_at_10"] == best
        for copy, histories in (("train", split.train), ("fit", split.fit)):
            again = fit_family(name, chosen_params(folder, name), histories, seed=3)
            loaded = load_family(name, folder / name / copy)
            np.testing.assert_array_equal(loaded.scores(split.fit), again.scores(split.fit), err_msg=f"{name} {copy}")


def test_the_order_aware_win_where_order_is_all(fitted):
    split, folder, _ = fitted
    figures = {
        name: evaluate(load_family(name, folder / name / "fit"), split.fit, split.targets(TEST)).metrics["ndcg_at_10"]
        for name in FAMILIES
    }
    assert figures["order_ridge"] == max(figures.values())


@pytest.mark.parametrize("name", ["ease", "ials"])
def test_recency_wins_where_tastes_change(name):
    """Six titles of one genre, then nine of another: what comes next is told by the newest, not by the most."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(150):
        before, after = rng.choice(4, 2, replace=False)
        rows.append([*(before * 12 + rng.permutation(12)[:6]), *(after * 12 + rng.permutation(12)[:9])])
    histories = Histories.of_lists(rows, 48)
    place = np.tile(np.arange(15), 150)
    known, wanted = histories.where(place < 10), histories.where(place >= 10)
    plain, recent = tune(name, known, wanted), tune(f"{name}_recency", known, wanted)
    assert recent.validation["ndcg_at_10"] > plain.validation["ndcg_at_10"] + 0.05


def test_the_test_window_is_not_touched(fitted, tmp_path):
    """Another test window, the same models: byte for byte."""
    split, folder, _ = fitted
    keep = split.part < TEST
    blind = split_of(split.interactions.where(keep), split.part[keep])
    fit_rivals(blind, tmp_path, BaselinesConfig(), seed=3, tracker=NullTracker())
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 1 + 2 * 2 * len(FAMILIES)
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_without_order_those_that_need_it_are_left_out():
    assert families_to_run(BaselinesConfig(), ordered=False) == ("popularity", "item_knn", "ease", "ials")
    assert families_to_run(BaselinesConfig(models=()), ordered=True) == ("popularity", "ease", "order_ridge")


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean item_knn"):
        families_to_run(BaselinesConfig(models=("item_kn",)), ordered=True)
    with pytest.raises(ConfigError, match="Known are popularity"):
        fit_family("zzz", {}, walks()[0])


def test_without_validation_targets_the_defaults_stand(tmp_path):
    histories = Histories.of_lists([[0, 1], [1]], 3)
    assert tune("ease", histories, Histories.of_lists([[], []], 3)).params == {}
    split = split_of(histories, np.zeros(3, np.int8))
    report = fit_rivals(split, tmp_path, BaselinesConfig(), seed=0, tracker=NullTracker())
    assert all(entry["params"] == {} for entry in report.values())
    assert np.isfinite(load_family("order_ridge", tmp_path / "order_ridge" / "fit").scores(histories)).all()


def test_tuning_compares_on_the_same_few_users(monkeypatch):
    histories, part = walks()
    train, targets = histories.where(part == TRAIN), histories.where(part == VALIDATION)
    monkeypatch.setattr("recsys.rivals.TUNING_USERS", 10)
    monkeypatch.setattr("recsys.rivals.TUNING_FITS", 50)
    few = tune("ials", train, targets, seed=1)
    assert few.tried == tune("ials", train, targets, seed=1).tried
    monkeypatch.undo()
    assert few.tried != tune("ials", train, targets, seed=1).tried


@pytest.mark.parametrize("density", [0.01, 0.3])
def test_gram_is_the_product_however_it_is_made(density, monkeypatch):
    monkeypatch.setattr("recsys.cooccurrence._BLOCK", 16)
    monkeypatch.setattr("recsys.cooccurrence._ROWS", 7)
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(rng.random(50) < density).tolist() for _ in range(70)]
    histories = Histories.of_lists(rows, 50)
    x = histories.matrix(histories.recency(3.0))
    np.testing.assert_allclose(gram(x), x.toarray().T @ x.toarray(), atol=1e-5)


def test_covered_titles_are_the_most_popular():
    histories = Histories.of_lists([[0, 4, 2], [4, 2], [4, 1]], 6)
    assert covered_titles(histories, 2).tolist() == [2, 4]
    assert covered_titles(histories, 3).tolist() == [0, 2, 4]  # a tie goes to the lower number
    assert covered_titles(histories, 99).tolist() == [0, 1, 2, 4]


def test_dense_models_cover_what_the_interactions_pay_for(monkeypatch):
    histories, _ = walks()
    monkeypatch.setattr("recsys.rivals.DENSE_TITLES", 7)
    monkeypatch.setattr("recsys.rivals.DENSE_GROWTH", 2)
    titles = int(2 * np.cbrt(len(histories.item_nums)))  # 2 ∛1,400 = 22
    assert 7 < titles < 40
    assert len(fit_family("ease", {}, histories).item_nums) == titles
    assert len(fit_family("order_ridge", {}, histories, max_items=9).item_nums) == 9
    assert len(fit_family("item_knn", {}, histories, max_items=9).item_nums) == 40  # nothing dense
    monkeypatch.setattr("recsys.rivals.DENSE_GROWTH", 0.1)
    assert len(fit_family("ease", {}, histories).item_nums) == 7


def test_what_is_left_out_is_in_the_report_and_said(tmp_path):
    notes = []

    class Heard(NullTracker):
        def note(self, text):
            notes.append(text)

    report = fit_rivals(split_of(*walks()), tmp_path, BaselinesConfig(max_items=9), seed=3, tracker=Heard())
    assert report["ease"]["covered"]["titles"] == 9
    assert json.loads((tmp_path / "baselines.json").read_text())["ease"]["covered"] == report["ease"]["covered"]
    assert [note.split()[0] for note in notes] == ["ease", "ease_recency", "order_ridge"]
    assert report["popularity"]["covered"] is None


def test_sampled_users_are_spread_and_have_about_as_much_as_asked():
    histories, _ = walks()
    few = sample_users(histories, 300)
    assert 200 < len(few.item_nums) < 400
    np.testing.assert_array_equal(few.select(slice(0, 1)).item_nums, histories.select(slice(0, 1)).item_nums)
    assert sample_users(histories, len(histories.item_nums)) is histories
    assert sample_users(histories, 1).n_users == 1


@pytest.mark.parametrize("name", ["order_ridge", "recent_popularity"])
def test_much_data_is_tuned_on_a_part(name, monkeypatch):
    histories, part = walks()
    train, targets = histories.where(part == TRAIN), histories.where(part == VALIDATION)
    whole = tune(name, train, targets)
    monkeypatch.setattr("recsys.rivals.TUNING_INTERACTIONS", 150)
    assert tune(name, train, targets).tried != whole.tried


def test_fitting_that_was_cut_off_goes_on_with_the_families_that_are_left(tmp_path, monkeypatch):
    split, tuned = split_of(*walks()), []
    config = BaselinesConfig(models=("popularity",))
    whole = fit_rivals(split, tmp_path / "whole", config, seed=3, tracker=NullTracker())

    def counted(which, *args, **kwargs):
        tuned.append(which)
        if len(tuned) == 2:
            raise KeyboardInterrupt
        return tune(which, *args, **kwargs)

    monkeypatch.setattr(rivals, "tune", counted)
    with pytest.raises(KeyboardInterrupt):
        fit_rivals(split, tmp_path / "cut", config, seed=3, tracker=NullTracker())
    resumed = fit_rivals(split, tmp_path / "cut", config, seed=3, tracker=NullTracker())
    assert tuned[1] == tuned[2]
    assert len(tuned) == len(whole) + 1, "a family that was done is not done again"
    assert {name: entry["params"] for name, entry in resumed.items()} == {
        name: entry["params"] for name, entry in whole.items()
    }
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "cut") for p in (tmp_path / "cut").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
