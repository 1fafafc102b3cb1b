from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys import columns
from recsys.data.ids import IdMap
from recsys.data.split import TEST, TRAIN, VALIDATION, Split
from recsys.errors import TrainingError
from recsys.evaluation import Evaluation, evaluate
from recsys.histories import Histories
from recsys.models.baselines import Popularity
from recsys.ring_runs import fit_rival, measure_model
from recsys.rivals import FAMILIES, TRAININGS, Family, load_family, tune
from recsys.tracker import NullTracker


def split_of(n_users=60, n_items=40):
    rng = np.random.default_rng(0)
    rows = [(rng.integers(n_items) + np.cumsum(rng.integers(1, 4, 12))) % n_items for _ in range(n_users)]
    histories = Histories.of_lists(rows, n_items)
    part = np.zeros(len(histories.item_nums), np.int8)
    part[histories.ages < 5] = VALIDATION
    part[histories.ages < 3] = TEST
    users = IdMap.of([f"u{number:02d}" for number in range(n_users)])
    items = IdMap.of([f"i{number:02d}" for number in range(n_items)])
    return Split(users, items, histories, part, columns.TITLES.empty_table(), "per-user-temporal")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    split = split_of()
    split.save(folder)
    return split, folder


def run(folder, to, spec, budget=None):
    return fit_rival(folder, to, spec, budget=budget, max_items=100, seed=0, tracker=NullTracker())


def test_a_rival_is_tuned_fitted_and_measured(saved, tmp_path):
    split, folder = saved
    told = run(folder, tmp_path / "rival", "ease")
    report = json.loads((tmp_path / "rival" / "rival.json").read_text())
    assert len(report["tried"]) == 10 == told["tried"]
    assert report["params"] == max(report["tried"], key=lambda setting: setting["ndcg_at_10"])["params"]
    assert set(told["seconds"]) == {"tune", "fit"}
    assert "seconds" not in report  # the file's bytes do not depend on the clock
    measured = measure_model(
        folder, tmp_path / "rival" / "fit", "ease", tmp_path / "measured", users=1000, tracker=NullTracker()
    )
    evaluation = Evaluation.load(tmp_path / "measured")
    again = evaluate(load_family("ease", tmp_path / "rival" / "fit"), split.fit, split.targets(TEST))
    np.testing.assert_array_equal(evaluation.top, again.top)
    assert measured["metrics"] == dict(again.metrics)
    assert (measured["users"], measured["seconds"] >= 0) == (60, True)
    fitted = FAMILIES["ease"].fit(split.train, dict(told["params"]), 100, 0)
    np.testing.assert_array_equal(
        load_family("ease", tmp_path / "rival" / "train").scores(split.train), fitted.scores(split.train)
    )


def test_a_budget_cuts_the_grid(saved, tmp_path):
    _, folder = saved
    assert run(folder, tmp_path, "item_knn", budget=2)["tried"] == 2
    assert len(json.loads((tmp_path / "rival.json").read_text())["tried"]) == 2


def test_a_family_that_stops_early_gets_the_validation_window_and_few_settings():
    split = split_of()
    heard = []

    def grid(histories, seed, validation):
        heard.append((histories, validation))
        for number in range(20):
            yield {"number": number, "epochs": 3}, Popularity.fit(histories)

    kind = Family(lambda h, p, m, s: Popularity.fit(h), Popularity.load, grid, validated=True)
    known, targets = split.known(VALIDATION), split.targets(VALIDATION)
    assert len(tune(kind, split.train, targets, known=known).tried) == TRAININGS
    assert len(tune(kind, split.train, targets, known=known, budget=9).tried) == 9
    histories, (read, wanted) = heard[0]
    np.testing.assert_array_equal(histories.item_nums, split.train.item_nums)
    assert read.n_users == wanted.n_users == int((targets.lengths > 0).sum())


def test_what_is_read_in_tuning_may_differ_from_what_is_fitted_on():
    """Strong generalisation: those whom settings are measured on are not among those that are learned from."""
    split = split_of()
    learners = (split.interactions.user_nums < 40).astype(bool)
    fitted = split.interactions.where(learners)
    window = replace(split, part=np.where(learners, TRAIN, VALIDATION).astype(np.int8),
                     fold_in=~learners & (split.interactions.ages >= 3))  # fmt: skip
    tuned = tune("ease", fitted, window.targets(VALIDATION), known=window.known(VALIDATION))
    blind = tune("ease", fitted, window.targets(VALIDATION))  # nothing is read: everybody gets the popularity
    assert tuned.validation["ndcg_at_10"] > blind.validation["ndcg_at_10"] + 0.03


def test_an_empty_grid_is_refused():
    split = split_of()
    kind = Family(lambda h, p, m, s: Popularity.fit(h), Popularity.load, lambda histories, seed: iter(()))
    with pytest.raises(TrainingError, match="grid"):
        tune(kind, split.train, split.targets(VALIDATION))
