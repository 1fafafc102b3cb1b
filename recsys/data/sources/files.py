"""Source ``files``: your own ratings (and titles), as CSV, TSV or Parquet, one file or many."""

from __future__ import annotations

from pathlib import Path

from recsys import columns as c
from recsys.config import SourceConfig
from recsys.data.mapping import check_mapping
from recsys.data.sources.base import Layout, Located, Place, Provenance, RawFile, RawTable, Tables
from recsys.errors import ConfigError, SourceError

_PARQUET = (".parquet", ".pq")


def locate(config: SourceConfig, place: Place) -> Located:
    """Find the files that ``[source] ratings`` and ``titles`` name.

    Raises:
        ConfigError: ``ratings`` is not set, or ``[source.columns]`` names a column that is not ours.
        SourceError: a path or pattern matches no file.
    """
    if config.ratings is None:
        raise ConfigError(
            'kind = "files" needs the path of the ratings',
            where="[source] ratings",
            remedy='set it, such as ratings = "ratings.csv"',
        )
    check_mapping(config.columns)
    ratings = _matching(config.ratings, "ratings")
    titles = _matching(config.titles, "titles") if config.titles is not None else ()
    tables = Tables(
        ratings=_table("ratings", ratings, config, (c.USER_ID, c.ITEM_ID)),
        titles=_table("titles", titles, config, (c.ITEM_ID,)) if titles else None,
    )
    return Located(
        files=(*ratings, *titles),
        provenance=Provenance(name=", ".join(path.name for path in ratings[:3]) + (", …" if ratings[3:] else "")),
        tables=lambda _scratch: tables,
    )


def _matching(pattern: str, key: str) -> tuple[Path, ...]:
    if pattern.startswith(("s3://", "gs://", "http://", "https://", "file://")):
        raise SourceError(
            f"{pattern!r} is not a local path", where=f"[source] {key}", remedy="bring the files to this machine first"
        )
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    elif path.is_file():
        found = [path]
    else:
        found = sorted(file for file in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if file.is_file())
    if not found:
        raise SourceError(f"no file matches {pattern!r}", where=f"[source] {key}", remedy="mend the path")
    return tuple(found)


def _table(role: str, paths: tuple[Path, ...], config: SourceConfig, required: tuple[str, ...]) -> RawTable:
    layouts = {path: _layout(path) for path in paths}
    if len(set(layouts.values())) > 1:
        odd = next(path for path in paths if layouts[path] != layouts[paths[0]])
        raise SourceError(
            f"the {role} are of more than one kind: {paths[0].name} and {odd.name}",
            where=f"[source] {role}",
            remedy="name files of one kind",
        )
    return RawTable(
        role=role,
        files=tuple(RawFile(path) for path in paths),
        layout=layouts[paths[0]],
        mapping=config.columns,
        required=required,
    )


def _layout(path: Path) -> Layout:
    suffix = path.suffix.lower()
    if suffix in (".zip", ".tar", ".tgz", ".xlsx", ".xls", ".json", ".bz2", ".xz"):
        raise SourceError(
            f"files of the kind {suffix} are not read", where=str(path), remedy="unpack or save them as CSV or Parquet"
        )
    return "parquet" if suffix in _PARQUET else "delimited"
