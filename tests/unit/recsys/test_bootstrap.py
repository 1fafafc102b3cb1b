from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys.bootstrap import Interval, paired_bootstrap


def test_an_interval_reads_as_people_write_it_and_turns_round():
    interval = Interval(mean=0.0123, low=-0.001, high=0.03)
    assert str(interval) == "+0.0123 [-0.0010, +0.0300]"
    assert str(interval.negated) == "-0.0123 [-0.0300, +0.0010]"


def test_bootstrap_agrees_with_the_normal_interval():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.3, 0.2, 4000), rng.normal(0.28, 0.2, 4000)
    interval = paired_bootstrap(a, b, resamples=4000, confidence=0.9, seed=1)
    low, high = stats.norm.interval(0.9, (a - b).mean(), (a - b).std() / np.sqrt(4000))
    assert interval.mean == pytest.approx((a - b).mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=4e-4)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        difference = rng.exponential(0.1, 150) - 0.1
        interval = paired_bootstrap(difference, np.zeros(150), resamples=500, confidence=0.9, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert 165 <= covered <= 195


def test_bootstrap_is_paired_seeded_and_chunked(monkeypatch):
    rng = np.random.default_rng(0)
    users = rng.normal(0.5, 1.0, 500).astype(np.float32)
    tight = paired_bootstrap(users + np.float32(0.01), users, seed=3)
    assert tight.high - tight.low < 1e-4  # the users' spread cancels
    other = rng.random(500)
    whole = paired_bootstrap(users, other, seed=3)
    assert whole == paired_bootstrap(users, other, seed=3)
    assert whole != paired_bootstrap(users, other, seed=4)
    monkeypatch.setattr("recsys.bootstrap._DRAWS", 3_000)
    assert paired_bootstrap(users, other, seed=3) == whole
