"""The evaluation streams: memory depends on titles and block, hardly on the number of users."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def measured(repository, users: int, titles: int) -> dict[str, float]:
    """In a process of its own, whose peak of memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluation_memory", "--users", str(users), "--titles", str(titles)],
        cwd=repository, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_users(repository):
    """Four times the users, 60,000 titles: 2 kB more for each (its list of 100 and its metrics), not 240 kB."""
    few, many = measured(repository, 1_500, 60_000), measured(repository, 6_000, 60_000)
    assert many["users"] == 6_000
    assert many["scores_at_once_bytes"] > 1.4e9
    assert many["peak_rss_bytes"] < 500e6
    assert many["peak_rss_bytes"] - few["peak_rss_bytes"] < 40e6
