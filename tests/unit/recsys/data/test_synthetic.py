"""Made-up services: their size, their shape, and that titles carry the tastes of those who watch them."""

import hashlib
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.artefacts import read_manifest, read_table
from recsys.config import SourceConfig
from recsys.data import synthetic
from recsys.data.ingest import ingest
from recsys.data.synthetic import write_synthetic
from recsys.errors import ConfigError


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("service")
    ratings, titles = write_synthetic(folder, users=1_500, items=800, interactions=90_000, seed=5)
    return pd.read_csv(ratings), pd.read_csv(titles, keep_default_na=False)


def test_size_and_uniqueness(service: tuple[pd.DataFrame, pd.DataFrame]):
    ratings, titles = service
    assert (len(ratings), ratings["userId"].nunique(), len(titles)) == (90_000, 1_500, 800)
    assert not ratings.duplicated(["userId", "movieId"]).any()
    assert set(ratings["movieId"]) <= set(titles["movieId"])
    assert titles["movieId"].is_unique
    assert set(ratings["rating"]) <= {n / 2 for n in range(1, 11)}
    assert ratings["rating"].between(3, 4.5).mean() > 0.5


def test_popularity_is_skewed_activity_is_log_normal_and_time_is_in_order(service: tuple[pd.DataFrame, pd.DataFrame]):
    ratings, titles = service
    counts = ratings["movieId"].value_counts().reindex(titles["movieId"], fill_value=0).sort_values(ascending=False)
    assert counts.iloc[:80].sum() > 0.25 * len(ratings)
    activity = np.log(ratings["userId"].value_counts())
    assert 0.7 < activity.std() < 1.3
    assert abs(((activity - activity.mean()) ** 3).mean() / activity.std() ** 3) < 0.6
    assert ratings.groupby("userId")["timestamp"].apply(lambda t: t.is_monotonic_increasing).all()


def test_content_carries_taste(service: tuple[pd.DataFrame, pd.DataFrame]):
    """Two titles of one user share a director far more often than two of different users do."""
    ratings, titles = service
    director = titles.set_index("movieId")["directors"]
    genre = titles.set_index("movieId")["genres"].str.split("|").str[0]
    users = ratings.groupby("userId").sample(2, random_state=0, replace=True)
    for words in (director, genre):
        named = users["movieId"].map(words).to_numpy().reshape(-1, 2)
        within = (named[:, 0] == named[:, 1]).mean()
        across = (named[:, 0] == np.roll(named[:, 1], 1)).mean()
        assert within > 1.5 * across
    assert titles["plot"].str.split().str.len().min() > 12
    assert titles["cast"].str.contains("|", regex=False).all()


def test_order_carries_taste(service: tuple[pd.DataFrame, pd.DataFrame]):
    """Neighbours in time are more alike than any two titles of the same user."""
    ratings, titles = service
    genre = ratings["movieId"].map(titles.set_index("movieId")["genres"].str.split("|").str[0])
    following = ratings["userId"].eq(ratings["userId"].shift(-1))
    near = genre.eq(genre.shift(-1))[following].mean()
    shuffled = genre.groupby(ratings["userId"]).transform(lambda g: g.sample(frac=1, random_state=0).to_numpy())
    assert near > 1.3 * shuffled.eq(shuffled.shift(-1))[following].mean()


def test_ratings_follow_taste(service: tuple[pd.DataFrame, pd.DataFrame]):
    ratings, titles = service
    genre = ratings["movieId"].map(titles.set_index("movieId")["genres"].str.split("|").str[0])
    share = ratings.groupby(["userId", genre])["rating"].transform("size") / ratings.groupby("userId")[
        "rating"
    ].transform("size")
    assert ratings["rating"].corr(share) > 0.15


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, format: str):
    def digest(name: str, seed: int) -> list[str]:
        files = write_synthetic(tmp_path / name, users=300, items=100, interactions=5_000, seed=seed, format=format)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    assert digest("a", 1) == digest("b", 1)
    assert all(one != two for one, two in zip(digest("a", 1), digest("c", 2), strict=True))


def test_more_users_than_a_block_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "_BLOCK", 1_000)
    ratings, _ = write_synthetic(tmp_path, users=400, items=60, interactions=9_000, seed=1)
    frame = pd.read_csv(ratings)
    assert (len(frame), frame["userId"].nunique()) == (9_000, 400)
    assert frame["userId"].is_monotonic_increasing


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(users=st.integers(1, 30), items=st.integers(1, 40), fill=st.floats(0, 1), seed=st.integers(0, 9))
def test_every_size_that_fits_is_made_exactly(tmp_path: Path, users: int, items: int, fill: float, seed: int):
    most = users * max(1, int(0.6 * items))
    wanted = users + int(fill * (most - users))
    ratings, _ = write_synthetic(tmp_path, users=users, items=items, interactions=wanted, seed=seed)
    frame = pd.read_csv(ratings)
    assert (len(frame), frame["userId"].nunique()) == (wanted, users)
    assert not frame.duplicated(["userId", "movieId"]).any()


@pytest.mark.parametrize(("users", "items", "interactions"), [(10, 10, 9), (10, 10, 61)])
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, users: int, items: int, interactions: int):
    with pytest.raises(ConfigError, match="cannot be shared"):
        ingest(SourceConfig(kind="synthetic", users=users, items=items, interactions=interactions), tmp_path)


def test_the_source_gives_what_the_files_give(tmp_path: Path):
    size = {"users": 200, "items": 120, "interactions": 4_000, "seed": 3}
    ratings, titles = write_synthetic(tmp_path / "csv", **size)
    made_up = ingest(SourceConfig(kind="synthetic", **size), tmp_path / "home")
    as_files = ingest(SourceConfig(kind="files", ratings=str(ratings), titles=str(titles)), tmp_path / "home")
    assert made_up.dataset == as_files.dataset
    assert ingest(SourceConfig(kind="synthetic", **size), tmp_path / "home").reused
    summary = read_manifest(made_up.dataset).summary
    assert (summary["ordered"], summary["has_titles"], summary["rating_max"]) == (True, True, 5.0)
    title = read_table(made_up.dataset.file("titles.parquet")).to_pylist()[0]
    assert all(title[name] for name in ("title", "year", "genres", "cast", "directors", "tags", "plot"))


def test_memory_does_not_grow_with_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "_BLOCK", 1 << 16)
    write_synthetic(tmp_path / "warm", users=2_000, items=1_000, interactions=150_000, seed=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_synthetic(tmp_path / "more", users=10_000, items=1_000, interactions=750_000, seed=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000
