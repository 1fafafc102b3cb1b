from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import TrainingError
from recsys.evaluation import evaluate
from recsys.histories import Histories
from recsys.ring import METRICS, compare

N = 60


class Peeking:
    """Scores by chance, but lifts a share of what the users want: the larger, the better."""

    def __init__(self, targets, share, seed):
        self.targets, self.share, self.seed = targets, share, seed
        self.n_items = targets.n_items

    def scores(self, histories):
        rng = np.random.default_rng(self.seed)
        scores = rng.random((histories.n_users, self.n_items), np.float32)
        rows, items = self.targets.user_nums, self.targets.item_nums
        lifted = rng.random(len(items)) < self.share
        scores[rows[lifted], items[lifted]] += 1
        return scores


@pytest.fixture(scope="module")
def ground():
    rng = np.random.default_rng(0)
    rows = [rng.permutation(100)[:30].tolist() for _ in range(N)]
    return Histories.of_lists([row[:24] for row in rows], 100), Histories.of_lists([row[24:] for row in rows], 100)


@pytest.fixture(scope="module")
def evaluations(ground):
    known, targets = ground
    shares = {"popularity": 0.0, "ease": 0.4, "sasrec": 0.55, "ncf": 0.9, "blend": 0.56}
    return {
        name: evaluate(Peeking(targets, share, seed), known, targets, block_size=N)
        for seed, (name, share) in enumerate(shares.items())
    }


@pytest.fixture(scope="module")
def ring(ground, evaluations):
    return compare(evaluations, ground[1], ground[0])


def test_the_best_rival_is_none_of_ours(ring):
    assert ring.best_rival == dict.fromkeys(METRICS, "sasrec")
    assert [name for name, model in ring.models.items() if model.ours] == ["ncf", "blend"]
    assert ring.users == N


def test_intervals_hold_the_mean_and_are_as_wide_as_the_standard_error_says(ring, evaluations):
    for name, model in ring.models.items():
        for metric, interval in model.intervals.items():
            values = evaluations[name].per_user[metric]
            assert interval.mean == pytest.approx(evaluations[name].metrics[metric], abs=1e-6)
            assert interval.low <= interval.mean <= interval.high
            error = values.std(ddof=1) / np.sqrt(N)
            assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.15, abs=1e-9)


def test_differences_are_paired_on_users(ring, evaluations):
    for name in ("popularity", "ease", "ncf", "blend"):
        difference = ring.models[name].against_best_rival["ndcg_at_10"]
        paired = evaluations[name].per_user["ndcg_at_10"] - evaluations["sasrec"].per_user["ndcg_at_10"]
        assert difference.rival == "sasrec"
        assert difference.mean == pytest.approx(float(paired.mean(dtype=np.float64)), abs=1e-6)
        error = paired.std(ddof=1) / np.sqrt(N)
        assert difference.high - difference.low == pytest.approx(2 * 1.96 * error, rel=0.15)
        ratio = evaluations[name].metrics["ndcg_at_10"] / evaluations["sasrec"].metrics["ndcg_at_10"]
        assert difference.ratio == pytest.approx(ratio)
    assert ring.models["ncf"].against_best_rival["ndcg_at_10"].above
    assert not ring.models["popularity"].against_best_rival["ndcg_at_10"].above
    assert ring.models["sasrec"].against_best_rival == dict.fromkeys(METRICS)


def test_groups_add_up(ring, ground):
    groups = ring.models["ncf"].groups
    for grouping in ("activity", "popularity", "newness"):
        assert sum(group.targets for group in groups[grouping].values()) == len(ground[1].item_nums)
    assert sum(group.users for group in groups["activity"].values()) == N
    assert set(groups["popularity"]) == {"head", "middle", "tail"}
    assert set(groups["newness"]) == {"new", "older", "cold"}


def test_the_same_every_time_and_back_from_json(ring, ground, evaluations):
    again = compare(evaluations, ground[1], ground[0])
    assert again.model_dump_json() == ring.model_dump_json()
    assert type(ring).model_validate_json(ring.model_dump_json()) == ring
    other = compare(evaluations, ground[1], ground[0], seed=1)
    assert other.models["ncf"].intervals != ring.models["ncf"].intervals


def test_without_a_rival_there_is_no_difference(ground, evaluations):
    alone = compare({"ncf": evaluations["ncf"]}, ground[1], ground[0])
    assert alone.best_rival == dict.fromkeys(METRICS)
    assert alone.models["ncf"].against_best_rival == dict.fromkeys(METRICS)


def test_a_rival_without_a_hit_has_no_ratio(ground):
    known, targets = ground
    worst = evaluate(Peeking(targets, 0.0, 0), known, targets, candidates=np.zeros(100, bool))
    good = evaluate(Peeking(targets, 1.0, 1), known, targets, block_size=N)
    difference = compare({"none": worst, "ncf": good}, targets, known).models["ncf"].against_best_rival["ndcg_at_10"]
    assert difference.ratio is None
    assert difference.mean > 0.9


def test_other_users_are_refused(ground, evaluations):
    known, targets = ground
    fewer = evaluate(
        Peeking(targets.select(slice(0, 5)), 0.5, 0), known.select(slice(0, 5)), targets.select(slice(0, 5))
    )
    with pytest.raises(TrainingError, match="ease and few were not measured on the same users"):
        compare({"ease": evaluations["ease"], "few": fewer}, targets, known)
    with pytest.raises(TrainingError, match="no model was measured"):
        compare({}, targets, known)
