"""The data that the benchmark runs on, each as a source and a way to split it.

The sample and the made-up service need nothing but the configuration; ml-latest-small and the plots are files that
whoever runs the benchmark has (``MARQUEE_TEST_DATA``, read in ``__main__``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from recsys import columns
from recsys.artefacts import ArtefactRef, read_table, write_table
from recsys.config import SourceConfig, SplitConfig
from recsys.data.validated import RATINGS_FILE, TITLES_FILE

Files = Callable[[str], ArtefactRef]
"""Name of a dataset → its validated artefact: for datasets that are made of another one."""


@dataclass(frozen=True)
class Place:
    """Where data lie, and where made ones go."""

    given: Path
    """Holds ml-latest-small/ and tmdb-5000/."""
    made: Path


@dataclass(frozen=True)
class Dataset:
    """One line of the benchmark."""

    name: str
    words: str
    """As tables name it."""
    source: Callable[[Place, Files], SourceConfig]
    split: SplitConfig = field(default_factory=SplitConfig)
    needs: tuple[str, ...] = ()
    """Folders that have to be given."""
    neural: bool = True
    """Whether the neural rivals are trained on it."""

    def missing(self, place: Place) -> list[str]:
        """Folders that are needed and not there."""
        return [name for name in self.needs if not (place.given / name).is_dir()]


def _sample(place: Place, files: Files) -> SourceConfig:
    return SourceConfig(kind="sample")


def _sample_without_time(place: Place, files: Files) -> SourceConfig:
    """The sample's ratings as files without timestamps: no model can know the order."""
    validated = files("sample")
    folder = _fresh(place.made / "sample-without-time")
    ratings = read_table(validated.file(RATINGS_FILE)).drop_columns([columns.TIMESTAMP])
    write_table(folder / "ratings.parquet", ratings)
    shutil.copy(validated.file(TITLES_FILE), folder / "titles.parquet")
    return _files(folder, rating_min=1, rating_max=5)


def _small(place: Place, files: Files) -> SourceConfig:
    """ml-latest-small without its tags: many were given after the cut, and what is tagged is what became popular."""
    folder = _fresh(place.made / "ml-latest-small")
    for name in ("ratings.csv", "movies.csv", "links.csv"):
        shutil.copy(place.given / "ml-latest-small" / name, folder / name)
    return SourceConfig(kind="movielens", path=str(folder))


def _small_with_plots(place: Place, files: Files) -> SourceConfig:
    """ml-latest-small with the plots that TMDB 5000 has of its films, joined by TMDB's id."""
    validated = files("ml-latest-small")
    folder = _fresh(place.made / "ml-latest-small-plots")
    titles = read_table(validated.file(TITLES_FILE))
    films = pd.read_csv(place.given / "tmdb-5000" / "tmdb_5000_movies.csv.gz", usecols=["id", "overview", "tagline"])
    text = {str(row.id): _joined(row.overview, row.tagline) for row in films.itertuples()}
    plots = pa.array([text.get(tmdb_id) for tmdb_id in titles[columns.TMDB_ID].to_pylist()], pa.string())
    place_of_plot = titles.schema.get_field_index(columns.PLOT)
    write_table(folder / "titles.parquet", titles.set_column(place_of_plot, columns.TITLES.field(columns.PLOT), plots))
    shutil.copy(validated.file(RATINGS_FILE), folder / "ratings.parquet")
    return _files(folder, rating_min=0.5, rating_max=5)


def _synthetic(place: Place, files: Files) -> SourceConfig:
    return SourceConfig(kind="synthetic", users=3_000, items=1_500, interactions=200_000, seed=3)


def _joined(*texts: Any) -> str | None:
    return " ".join(text for text in texts if isinstance(text, str)) or None


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files(folder: Path, **scale: float) -> SourceConfig:
    return SourceConfig(
        kind="files", ratings=str(folder / "ratings.parquet"), titles=str(folder / "titles.parquet"), **scale
    )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("sample", "sample (MovieLens 100K), per-user temporal", _sample),
        Dataset("ml-latest-small", "ml-latest-small, per-user temporal", _small, needs=("ml-latest-small",)),
        Dataset(
            "sample-random",
            "sample, random 80/20, no timestamps",
            _sample_without_time,
            SplitConfig(strategy="random"),
        ),
        Dataset("synthetic", "synthetic service, per-user temporal", _synthetic),
        Dataset(
            "sample-global-temporal",
            "sample, global temporal",
            _sample,
            SplitConfig(strategy="global-temporal"),
            neural=False,
        ),
        Dataset(
            "sample-leave-last-out",
            "sample, leave last out",
            _sample,
            SplitConfig(strategy="leave-last-out"),
            neural=False,
        ),
        Dataset(
            "sample-strong-generalisation",
            "sample, strong generalisation",
            _sample,
            SplitConfig(strategy="strong-generalisation"),
            neural=False,
        ),
        Dataset(
            "ml-latest-small-plots",
            "ml-latest-small with plots",
            _small_with_plots,
            needs=("ml-latest-small", "tmdb-5000"),
            neural=False,
        ),
    )
}
RING = tuple(name for name in DATASETS if name != "ml-latest-small-plots")
"""Datasets of the ring."""
