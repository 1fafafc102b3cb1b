from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.data.ids import IdMap
from recsys.errors import ArtefactError, TrainingError
from recsys.evaluation import Evaluation, activity_groups, evaluate
from recsys.histories import Histories
from recsys.metrics import gini, largest_share_of_one_list, recall_by_user, relevance, target_places


@dataclass
class Table:
    """A scorer that looks its scores up by the user's first title: its rows are users of a test."""

    values: np.ndarray

    @property
    def n_items(self):
        return self.values.shape[1]

    def scores(self, histories):
        return self.values[histories.item_nums[histories.indptr[:-1]]].astype(np.float32)

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


def of(rows, n_items):
    return Histories.of_lists(rows, n_items, ordered=True)


def test_by_hand():
    """Two users of three have targets; user 0's list is 5 4 3 2 1 (0 is seen), user 2's is 1 0 3 4 5 (2 is seen)."""
    values = np.array([[9, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0], [7, 8, 9, 6, 5, 4]], float)
    histories = of([[0], [1], [2]], 6)
    targets = of([[4, 2], [], [1, 5, 0]], 6)
    result = evaluate(Table(values), histories, targets, ks=(1, 2, 4))
    assert result.users.tolist() == [0, 2]
    assert result.top[:, :4].tolist() == [[5, 4, 3, 2], [1, 0, 3, 4]]
    log = np.log2
    np.testing.assert_allclose(result.per_user["ndcg_at_1"], [0, 1])
    np.testing.assert_allclose(result.per_user["ndcg_at_2"], [(1 / log(3)) / (1 + 1 / log(3)), 1], rtol=1e-6)
    ideal = 1 + 1 / log(3)
    np.testing.assert_allclose(
        result.per_user["ndcg_at_4"], [(1 / log(3) + 1 / log(5)) / ideal, ideal / (ideal + 1 / log(4))], rtol=1e-6
    )
    np.testing.assert_allclose(result.per_user["recall_at_2"], [1 / 2, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(result.per_user["capped_recall_at_2"], [1 / 2, 1])
    np.testing.assert_allclose(result.per_user["hit_rate_at_1"], [0, 1])
    np.testing.assert_allclose(result.per_user["mrr_at_1"], [0, 1])
    np.testing.assert_allclose(result.per_user["mrr_at_4"], [1 / 2, 1])
    assert result.metrics["recall_at_2"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_lists_together_by_hand():
    values = np.array([[9, 5, 4, 0], [9, 5, 4, 0], [4, 5, 9, 0]], float)
    histories = of([[0], [1], [2, 0]], 4)  # known by 2, 1, 1, 0 of three users
    targets = of([[1], [3], [3]], 4)
    result = evaluate(Table(values), histories, targets, ks=(1, 2))
    assert result.top.tolist() == [[1, 2], [0, 2], [1, 3]]
    metrics = result.metrics
    assert metrics["coverage_at_1"] == 2 / 4
    assert metrics["coverage_at_2"] == 1.0
    assert metrics["mean_popularity_at_1"] == pytest.approx((1 + 2 + 1) / 3 / 3)
    assert metrics["novelty_at_1"] == pytest.approx(-(np.log2(2 / 4) + np.log2(3 / 4) + np.log2(2 / 4)) / 3)
    assert metrics["cold_share_at_1"] == 0
    assert metrics["cold_share_at_2"] == pytest.approx(1 / 6)
    assert metrics["cold_recall_at_1"] == 0
    assert metrics["cold_recall_at_2"] == 1 / 2  # title 3 is cold: a target of users 1 and 2, listed for user 2
    assert metrics["gini_at_1"] == pytest.approx(gini(np.array([1, 2, 0, 0])))


def test_gini_by_definition():
    for exposure in ([1, 1, 1, 1], [0, 0, 0, 7], [3, 1, 0, 2, 2]):
        values = np.array(exposure)
        pairs = np.abs(values[:, None] - values[None, :]).sum() / (2 * len(values) ** 2 * values.mean())
        assert gini(values) == pytest.approx(pairs)
    assert gini(np.zeros(3, int)) == 0


def test_equal_scores_are_listed_by_item_number_and_lists_may_be_short():
    result = evaluate(Table(np.zeros((5, 5))), of([[3], [0, 1, 2, 4]], 5), of([[1], [3]], 5), ks=(3,))
    assert result.top.tolist() == [[0, 1, 2], [3, -1, -1]]


def test_disliked_titles_are_seen_too():
    histories = of([[0, 1]], 3)
    disliked = Histories(
        histories.indptr, histories.item_nums, histories.ratings, np.array([True, False]), histories.timestamps, 3
    )
    result = evaluate(Table(np.array([[1, 9, 0.0]])), disliked, of([[2]], 3), ks=(2,))
    assert result.top.tolist() == [[2, -1]]


def test_candidates_bound_the_lists():
    allowed = np.array([True, False, True, True])
    values = np.array([[9, 8, 7, 6.0]])
    result = evaluate(Table(values), of([[0]], 4), of([[1]], 4), ks=(2,), candidates=allowed)
    assert result.top.tolist() == [[2, 3]]


def test_a_constant_model_is_known_by_its_lists():
    histories = of([[user, 12 + user] for user in range(12)], 30)
    targets = of([[29]] * 12, 30)
    same = evaluate(Table(np.tile(np.arange(30.0), (30, 1))), histories, targets)
    assert same.same_list == 1.0  # although what users have seen makes the lists differ
    varied = evaluate(Table(np.random.default_rng(0).random((30, 30))), histories, targets)
    assert varied.same_list == pytest.approx(1 / 12)
    assert largest_share_of_one_list(np.zeros((0, 10), np.int32)) == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_told_and_rank_last(poison):
    result = evaluate(Table(np.array([[1, 2, poison, 3.0]])), of([[0]], 4), of([[1]], 4), ks=(3,))
    assert not result.finite
    assert result.top.tolist() == [[3, 1, -1]]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(TrainingError, match="nothing can be measured"):
        evaluate(Table(np.eye(3)), of([[0]], 3), of([[]], 3))
    with pytest.raises(TrainingError, match="do not belong together"):
        evaluate(Table(np.eye(3)), of([[0]], 4), of([[1]], 4))
    with pytest.raises(TrainingError, match="1 users with histories, 2 with targets"):
        evaluate(Table(np.eye(3)), of([[0]], 3), of([[1], [2]], 3))


def test_activity_groups():
    groups, names = activity_groups(np.array([5, 1, 1, 9, 30, 2, 7, 100]))
    assert names == ("1", "2-5", "7-9", "30-100")
    assert groups.tolist() == [1, 0, 0, 2, 3, 1, 2, 3]
    assert activity_groups(np.array([4, 4, 4]))[1] == ("4",)
    result = evaluate(Table(np.eye(3)), of([[0], [1, 2]], 3), of([[1], [0]], 3), ks=(10,))
    assert result.group_means("hit_rate_at_10") == {"1": 1.0, "2": 1.0}


@settings(deadline=None, max_examples=30)
@given(scores=arrays.arrays(np.int8, (7, 9)), block_size=st.integers(1, 8), seed=st.integers(0, 99))
def test_against_sorting_everything(scores, block_size, seed):
    """Blocks do not matter, and neither does how the top is found: many ties, random histories and targets."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(9)[: rng.integers(2, 9)].tolist() for _ in range(7)]
    for user, row in enumerate(rows):
        row.insert(0, user) if user not in row else row.insert(0, row.pop(row.index(user)))
    seen = [row[: max(1, len(row) // 2)] for row in rows]
    wanted = [row[max(1, len(row) // 2) :] for row in rows]
    result = evaluate(Table(scores.astype(float)), of(seen, 9), of(wanted, 9), ks=(3,), block_size=block_size)
    for place, user in enumerate(result.users):
        order = sorted(set(range(9)) - set(seen[user]), key=lambda item: (-int(scores[user, item]), item))[:3]
        assert result.top[place].tolist() == [*order, -1, -1, -1][:3]
        gains = [1 / np.log2(rank + 2) for rank, item in enumerate(order) if item in wanted[user]]
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(3, len(wanted[user]))))
        assert result.per_user["ndcg_at_3"][place] == pytest.approx(sum(gains) / ideal, abs=1e-6)


def _random_evaluation(n_users=40, n_items=150, seed=0):
    rng = np.random.default_rng(seed)
    rows = [[user, *(n_users + rng.permutation(n_items - n_users)[: rng.integers(1, 60)])] for user in range(n_users)]
    histories = of([row[: 1 + len(row) // 2] for row in rows], n_items)
    targets = of([row[1 + len(row) // 2 :] for row in rows], n_items)
    return evaluate(Table(rng.random((n_items, n_items))), histories, targets), targets


def test_save_and_load(tmp_path):
    result, _ = _random_evaluation()
    result.save(tmp_path / "a")
    loaded = Evaluation.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    for name in ("evaluation.npz", "evaluation.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert loaded.metrics == result.metrics
    np.testing.assert_array_equal(loaded.per_user["mrr_at_20"], result.per_user["mrr_at_20"])
    assert loaded.group_means("ndcg_at_10") == result.group_means("ndcg_at_10")
    (tmp_path / "a" / "evaluation.npz").write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="Run the evaluation again"):
        Evaluation.load(tmp_path / "a")


def _ranks(path: Path, result: Evaluation):
    users = IdMap.of([f"u{number:03d}" for number in range(40)])
    items = IdMap.of([f"i{number:03d}" for number in range(150)])
    result.export_ranks(path, users, items)
    return pq.read_table(path)


def test_exported_ranks_reproduce_the_figures(tmp_path):
    """As an independent script would: plain dictionaries over the exported table."""
    result, targets = _random_evaluation()
    lists: dict[str, list[str]] = {}
    for row in _ranks(tmp_path / "ranks.parquet", result).to_pylist():
        lists.setdefault(row["user_id"], []).append(row["item_id"])
        assert row["rank"] == len(lists[row["user_id"]])
    recalls = []
    for user in result.users:
        wanted = {f"i{number:03d}" for number in targets.item_nums[targets.row(user)]}
        recalls.append(len(wanted & set(lists[f"u{user:03d}"][:20])) / len(wanted))
    assert np.mean(recalls) == pytest.approx(result.metrics["recall_at_20"], abs=1e-6)


_RANX = """
import json, sys, ranx
wanted, run, names = json.load(sys.stdin)
figures = ranx.evaluate(ranx.Qrels(wanted), ranx.Run(run), names, make_comparable=True)
json.dump({name: float(value) for name, value in figures.items()}, sys.stdout)
"""


def test_against_ranx(tmp_path):
    """In a process of its own, where ranx interprets its kernels: compiling them takes minutes."""
    pytest.importorskip("ranx", reason="ranx is not installed")
    result, targets = _random_evaluation(seed=3)
    run: dict[str, dict[str, float]] = {}
    for row in _ranks(tmp_path / "ranks.parquet", result).to_pylist():
        run.setdefault(row["user_id"], {})[row["item_id"]] = 1.0 / row["rank"]
    wanted = {
        f"u{user:03d}": {f"i{number:03d}": 1 for number in targets.item_nums[targets.row(user)]}
        for user in result.users
    }
    names = {f"{name}@{k}": f"{name}_at_{k}" for name in ("ndcg", "recall", "hit_rate", "mrr") for k in (10, 20, 100)}
    answer = subprocess.run(
        [sys.executable, "-c", _RANX],
        input=json.dumps([wanted, run, list(names)]),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    figures = json.loads(answer.stdout)
    for theirs, mine in names.items():
        assert result.metrics[mine] == pytest.approx(figures[theirs], abs=1e-6), mine


def test_places_of_targets_in_lists(monkeypatch):
    """Against looking each one up; whatever is compared at a time."""
    rng = np.random.default_rng(0)
    top = np.stack([rng.permutation(30)[:8] for _ in range(12)]).astype(np.int32)
    top[3, 5:] = -1
    rows, items = np.repeat(np.arange(12), 6).astype(np.int32), rng.integers(0, 30, 72).astype(np.int32)
    expected = [list(top[row]).index(item) if item in top[row] else 8 for row, item in zip(rows, items, strict=True)]
    assert target_places(top, rows, items).tolist() == expected
    monkeypatch.setattr("recsys.metrics._TARGETS", 5)
    assert target_places(top, rows, items).tolist() == expected
    hits = relevance(top, rows, items)
    assert hits.tolist() == [[entry in items[rows == row] for entry in top[row]] for row in range(12)]


def test_figures_do_not_depend_on_how_much_is_counted_at_a_time(monkeypatch):
    whole, _ = _random_evaluation(seed=5)
    monkeypatch.setattr("recsys.metrics._TARGETS", 7)
    monkeypatch.setattr("recsys.evaluation.BLOCK_SCORES", 1000)
    pieces, _ = _random_evaluation(seed=5)
    assert pieces.metrics == whole.metrics
    np.testing.assert_array_equal(pieces.top, whole.top)


def test_recall_by_user():
    found = np.array([True, False, True, True])
    recall = recall_by_user(found, np.array([0, 0, 2, 2]), 3)
    assert recall[[0, 2]].tolist() == [0.5, 1.0]
    assert np.isnan(recall[1])
