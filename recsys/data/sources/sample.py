"""Source ``sample``: MovieLens 100K with directors, cast and genres from an open film database.

The ratings come from GroupLens where there is internet, else out of a pinned wheel that carries them; both give the
same ratings. The film database (Wikidata, CC0) comes out of a pinned wheel either way. What has been brought is kept
under home: a second time needs no network.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pyarrow as pa

from recsys import columns as c
from recsys.config import SourceConfig
from recsys.data.archives import open_member
from recsys.data.download import Wheel, fetch_wheel
from recsys.data.film_match import Film, match
from recsys.data.sources import movielens
from recsys.data.sources.base import Located, Place, Provenance, RawFile, RawTable, Tables
from recsys.errors import DownloadError, MarqueeError, SourceError

RATINGS_WHEEL = Wheel(
    "recbole",
    "1.2.1",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
FILMS_WHEEL = Wheel(
    "bokeh_sampledata",
    "2026.1",
    "bokeh_sampledata-2026.1-py3-none-any.whl",
    "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
)
_FOLDER = "recbole/dataset_example/ml-100k"
_FILMS = "bokeh_sampledata/_data/movies.db"
_TIMEOUT = 10.0
"""Seconds that GroupLens has to answer: there is another way."""

LICENCE = (
    f"{movielens.LICENCE}. Directors, cast and further genres: Wikidata, CC0 1.0 (via bokeh_sampledata, BSD-3-Clause)"
)


def locate(config: SourceConfig, place: Place) -> Located:
    """Bring the sample, or find it where an earlier run has put it.

    Raises:
        DownloadError: neither GroupLens nor the package index can be reached.
        SourceError: what came is not what is pinned.
    """
    films = fetch_wheel(FILMS_WHEEL, place.downloads, note=place.note)
    release, origin = _ratings(place)
    place.note(f"MovieLens 100K: {movielens.LICENCE}. Please cite: {movielens.CITATION}")
    origin = Provenance(
        "MovieLens 100K with directors, cast and genres from Wikidata",
        LICENCE,
        movielens.CITATION,
        origin.url,
        {**origin.checksums, films.name: f"sha256:{FILMS_WHEEL.sha256}"},
    )

    def tables(scratch: Path) -> Tables:
        raw = release.tables(scratch)
        return Tables(raw.ratings, raw.titles, credits=lambda titles: read_credits(titles, films, scratch, place))

    return Located((*release.files, films), origin, tables, movielens.WHOLE_STARS)


def _ratings(place: Place) -> tuple[Located, Provenance]:
    """MovieLens 100K: what is there already, else from GroupLens, else out of the wheel."""
    wheel, archive = place.downloads / RATINGS_WHEEL.file, place.downloads / "ml-100k.zip"
    if archive.is_file() or not wheel.is_file():
        try:
            path, origin = movielens.download("ml-100k", place, timeout=_TIMEOUT)
            return movielens.locate_release(path, origin), origin
        except MarqueeError as error:
            place.note(f"GroupLens gave nothing ({error.what}); taking the copy in a package")
    try:
        path = fetch_wheel(RATINGS_WHEEL, place.downloads, note=place.note)
    except DownloadError as error:
        raise DownloadError(
            f"the sample can be had neither from GroupLens nor from the package index ({error.what})",
            where="[source] kind = sample",
            remedy=f"check the network, or put ml-100k.zip or {RATINGS_WHEEL.file} into {place.downloads}",
        ) from None
    origin = Provenance("ml-100k", url=movielens.BASE_URL, checksums={path.name: f"sha256:{RATINGS_WHEEL.sha256}"})
    return Located((path,), origin, lambda _scratch: _from_wheel(path), movielens.WHOLE_STARS), origin


def _from_wheel(wheel: Path) -> Tables:
    def table(role: str, file: str, required: tuple[str, ...]) -> RawTable:
        raw = RawFile(wheel, f"{_FOLDER}/{file}")
        return RawTable(role, (raw,), "delimited", "\t", required=required, articles=True)

    return Tables(
        table("ratings", "ml-100k.inter", (c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP)),
        table("titles", "ml-100k.item", (c.ITEM_ID, c.TITLE, c.YEAR, c.GENRES)),
    )


def read_credits(titles: pa.Table, wheel: Path, scratch: Path, place: Place) -> pa.Table:
    """What the film database knows of titles.

    Args:
        titles: item_id, title, year.
        wheel: the package that carries the database.
        scratch: where the database may be unpacked.
        place: whom to tell.

    Returns:
        item_id, cast, directors, genres (lists), imdb_id: a row for every title that was found.
    """
    films = _films(wheel, scratch)
    wanted = {row[c.ITEM_ID]: (row[c.TITLE] or "", row[c.YEAR]) for row in titles.to_pylist()}
    found = match(wanted, [Film(key, row["Title"], row["Year"], row["weight"]) for key, row in enumerate(films)])
    place.note(f"directors and cast found for {len(found):,} of {len(wanted):,} titles")
    roles = Counter(name for film in films for name in _people(film["Cast"]))
    rows = [
        {
            c.ITEM_ID: item,
            # The database names a cast in alphabetical order; those in most films come first here.
            c.CAST: sorted(_people(films[key]["Cast"]), key=lambda name: (-roles[name], name)),
            c.DIRECTORS: _people(films[key]["Director"]),
            c.GENRES: _people(films[key]["Genre"]),
            c.IMDB_ID: films[key]["imdbID"] or None,
        }
        for item, key in sorted(found.items())
    ]
    names = (c.ITEM_ID, c.CAST, c.DIRECTORS, c.GENRES, c.IMDB_ID)
    return pa.Table.from_pylist(rows, schema=pa.schema([c.TITLES.field(name) for name in names]))


def _films(wheel: Path, scratch: Path) -> list[sqlite3.Row]:
    database = scratch / "films.db"
    with open_member(wheel, _FILMS) as source, database.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    query = """SELECT Title, Year, Director, "Cast", Genre, imdbID, length("Cast") AS weight
               FROM omdb WHERE Title <> '' AND Year IS NOT NULL ORDER BY imdbID, ID"""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        raise SourceError(f"the film database cannot be read ({error})", where=str(wheel)) from None


def _people(text: str | None) -> list[str]:
    return [name for name in (part.strip() for part in (text or "").split(", ")) if name]
