"""Source ``movielens``: any layout that GroupLens has published, from a folder, a zip, or brought by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recsys import columns as c
from recsys.config import SourceConfig
from recsys.data.archives import list_members
from recsys.data.download import Checksum, fetch, fetch_text
from recsys.data.sources.base import Located, Note, Place, Provenance, RawFile, RawTable, Tables
from recsys.errors import ConfigError, SourceError

BASE_URL = "https://files.grouplens.org/datasets/movielens"

MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-10m": "ce571fd55effeba0271552578f2648bd",
    "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
}
"""As GroupLens publishes them beside the archives, which do not change."""
CHANGING = ("ml-latest", "ml-latest-small")
"""Releases that are made anew: their checksum is fetched with them."""

LICENCE = (
    "MovieLens usage licence (GroupLens, University of Minnesota): research use, with acknowledgement; no commercial "
    "use and no redistribution without permission; no endorsement implied"
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems (TiiS) 5, 4: 19:1-19:19. https://doi.org/10.1145/2827872"
)

GENRES_100K = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_ITEM_100K = ("item_id", "title", "day", "video_day", "address", "unknown", *GENRES_100K)
_RATING = (c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP)

HALF_STARS, WHOLE_STARS = (0.5, 5.0), (1.0, 5.0)


@dataclass(frozen=True)
class _Layout:
    """What a release looks like: its files tell which it is."""

    needs: tuple[str, ...]
    tables: Callable[[dict[str, RawFile]], Tables]
    scale: Callable[[set[str]], tuple[float, float]]


def locate(config: SourceConfig, place: Place) -> Located:
    """Find a MovieLens release on disk, or bring it by its name.

    Raises:
        ConfigError: neither a path nor a known name is configured.
        SourceError: there is no release there, or the archive is damaged or hostile.
        DownloadError: GroupLens cannot be reached.
    """
    if config.path is not None:
        found = Path(config.path).expanduser()
        return locate_release(
            found, Provenance(found.name, LICENCE, CITATION, "https://grouplens.org/datasets/movielens")
        )
    if config.name is None:
        raise ConfigError(
            'kind = "movielens" needs a path or a name',
            where="[source]",
            remedy='set path to a folder or zip, or name, such as "ml-latest-small"',
        )
    archive, origin = download(config.name, place)
    return locate_release(archive, origin)


def download(name: str, place: Place, *, timeout: float = 30.0) -> tuple[Path, Provenance]:
    """Bring a release by its name (kept under home: a second time needs no network)."""
    if name not in MD5 and name not in CHANGING:
        raise ConfigError(
            f"there is no MovieLens release {name!r}",
            where="[source] name",
            remedy=f"the releases are {', '.join([*MD5, *CHANGING])}",
        )
    url, target = f"{BASE_URL}/{name}.zip", place.downloads / f"{name}.zip"
    if not target.is_file():
        md5 = MD5.get(name) or _published_md5(url, timeout)
        place.note(f"bringing {name} from GroupLens")
        fetch(url, target, Checksum("md5", md5), note=place.note, timeout=timeout)
    checksums = {target.name: f"md5:{MD5[name]}"} if name in MD5 else {}
    return target, Provenance(name, LICENCE, CITATION, url, checksums)


def _published_md5(url: str, timeout: float) -> str:
    words = fetch_text(f"{url}.md5", timeout=timeout).replace("=", " ").split()
    md5 = next(
        (word.lower() for word in words if len(word) == 32 and set(word.lower()) <= set("0123456789abcdef")), None
    )
    if md5 is None:
        raise SourceError("holds no MD5", where=f"{url}.md5", remedy="bring the archive by hand and set [source] path")
    return md5


def locate_release(path: Path, origin: Provenance, note: Note | None = None) -> Located:
    """The tables of a release in a folder or a zip, itself or one folder down.

    Raises:
        SourceError: no known layout is there.
    """
    files = _zip_files(path) if path.is_file() else _folder_files(path)
    for folder in sorted({PurePosixPath(name).parent for name in files}, key=lambda f: (len(f.parts), str(f))):
        here = {PurePosixPath(n).name: raw for n, raw in files.items() if PurePosixPath(n).parent == folder}
        for layout in LAYOUTS:
            if all(name in here for name in layout.needs):
                tables = layout.tables(here)
                return Located(_paths(tables), origin, lambda _scratch: tables, layout.scale(set(here)))  # noqa: B023
    seen = ", ".join(sorted(files)[:8]) or "nothing"
    raise SourceError(
        f"no MovieLens release is there (found: {seen})",
        where=str(path),
        remedy="give the folder or zip that holds u.data, ratings.dat or ratings.csv with movies.csv",
    )


def _zip_files(path: Path) -> dict[str, RawFile]:
    return {name: RawFile(path, name) for name in list_members(path) if not name.startswith("__MACOSX")}


def _folder_files(path: Path) -> dict[str, RawFile]:
    if not path.is_dir():
        raise SourceError("there is no such folder or zip", where=str(path), remedy="mend [source] path")
    found = [file for depth in ("*", "*/*") for file in path.glob(depth) if file.is_file()]
    return {file.relative_to(path).as_posix(): RawFile(file) for file in found}


def _paths(tables: Tables) -> tuple[Path, ...]:
    parts = (tables.ratings, tables.titles, tables.links, tables.tags)
    return tuple(sorted({file.path for table in parts if table is not None for file in table.files}))


def _delimited(role: str, raw: RawFile, delimiter: str, header: tuple[str, ...] | None, **more: object) -> RawTable:
    required = _RATING if role == "ratings" else (c.ITEM_ID,)
    return RawTable(role, (raw,), "delimited", delimiter, header=header, required=required, articles=True, **more)  # type: ignore[arg-type]


def _tables_100k(files: dict[str, RawFile]) -> Tables:
    titles = _delimited(
        "titles", files["u.item"], "|", _ITEM_100K, quoted=False, flags={c.GENRES: GENRES_100K}
    )  # fmt: skip
    return Tables(_delimited("ratings", files["u.data"], "\t", _RATING), titles)


def _tables_dat(files: dict[str, RawFile]) -> Tables:
    tags = files.get("tags.dat")
    return Tables(
        ratings=_delimited("ratings", files["ratings.dat"], "::", _RATING),
        titles=_delimited("titles", files["movies.dat"], "::", (c.ITEM_ID, c.TITLE, c.GENRES)),
        tags=_delimited("tags", tags, "::", ("user", c.ITEM_ID, "tag", "when")) if tags else None,
    )


def _tables_csv(files: dict[str, RawFile]) -> Tables:
    return Tables(
        ratings=_delimited("ratings", files["ratings.csv"], ",", None),
        titles=_delimited("titles", files["movies.csv"], ",", None),
        links=_delimited("links", files["links.csv"], ",", None) if "links.csv" in files else None,
        tags=_delimited("tags", files["tags.csv"], ",", None) if "tags.csv" in files else None,
    )


LAYOUTS = (
    _Layout(("ratings.csv", "movies.csv"), _tables_csv, lambda _names: HALF_STARS),
    # 10M has half stars and tags, 1M has neither.
    _Layout(
        ("ratings.dat", "movies.dat"), _tables_dat, lambda names: HALF_STARS if "tags.dat" in names else WHOLE_STARS
    ),
    _Layout(("u.data", "u.item"), _tables_100k, lambda _names: WHOLE_STARS),
)
