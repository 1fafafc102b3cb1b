"""Fixtures for all tests: where real data lie, and small tables."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("marquee", deadline=None)  # speed is measured by benchmarks: a busy machine fails no test
settings.load_profile("marquee")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The directory with ml-latest-small and tmdb-5000, from MARQUEE_TEST_DATA."""
    folder = Path(os.environ.get("MARQUEE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ml-latest-small" / "ratings.csv").is_file():
        pytest.skip(f"no test data in {folder}: set MARQUEE_TEST_DATA to a folder that holds ml-latest-small/")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT
