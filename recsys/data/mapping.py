"""Whose column is whose: our names, and the names that others give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from recsys import columns as c
from recsys.errors import ConfigError, SourceError

ALIASES: Mapping[str, tuple[str, ...]] = {
    c.USER_ID: ("userid", "user", "uid", "customerid", "viewerid"),
    c.ITEM_ID: ("itemid", "item", "movieid", "movie", "titleid", "filmid", "showid", "iid", "tconst"),
    c.RATING: ("rating", "weight", "score", "stars", "rate"),
    c.TIMESTAMP: ("timestamp", "datetime", "time", "date", "ts", "ratedat", "unixtimestamp"),
}
"""Of the ratings: MovieLens, RecBole's atomic files, LensKit, RecTools and common speech (spelled as :func:`plain`)."""

TITLE_ALIASES: Mapping[str, tuple[str, ...]] = {
    c.ITEM_ID: (*ALIASES[c.ITEM_ID], "id"),
    c.TITLE: ("title", "movietitle", "primarytitle", "itemname", "name", "originaltitle"),
    c.YEAR: ("year", "releaseyear", "startyear", "releasedate", "released"),
    c.GENRES: ("genres", "genre", "class", "categories", "category"),
    c.CAST: ("cast", "actors", "starring"),
    c.DIRECTORS: ("directors", "director"),
    c.TAGS: ("tags", "keywords"),
    c.PLOT: ("plot", "overview", "description", "synopsis", "summary"),
    c.IMDB_ID: ("imdbid", "imdb"),
    c.TMDB_ID: ("tmdbid", "tmdb"),
    c.MATURITY: ("maturity", "certificate", "certification", "mpaa"),
    c.AVAILABLE_FROM: ("availablefrom",),
    c.AVAILABLE_UNTIL: ("availableuntil",),
    c.REGIONS: ("regions", "region"),
}

LINK_ALIASES = {name: TITLE_ALIASES[name] for name in (c.ITEM_ID, c.IMDB_ID, c.TMDB_ID)}
TAG_ALIASES = {c.ITEM_ID: ALIASES[c.ITEM_ID], "tag": ("tag",)}

ROLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ratings": ALIASES,
    "titles": TITLE_ALIASES,
    "links": LINK_ALIASES,
    "tags": TAG_ALIASES,
}


def plain(name: str) -> str:
    """A column's name without case, punctuation and RecBole's type (``user_id:token``)."""
    return re.sub(r"[\W_]", "", re.sub(r":(token|token_seq|float|float_seq)$", "", name.strip()).lower())


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Refuse names on our side that Marquee does not have.

    Raises:
        ConfigError: naming the key and the nearest known one.
    """
    known = {*c.RATINGS.names, *c.TITLES.names}
    for ours in mapping:
        if ours not in known:
            near = difflib.get_close_matches(ours, known, n=1)
            raise ConfigError(
                f"{ours!r} is not a column of ours",
                where="[source.columns]",
                remedy=f"perhaps {near[0]!r} is meant" if near else f"ours are {', '.join(sorted(known))}",
            )


def resolve(
    role: str, found: Sequence[str], mapping: Mapping[str, str], required: Iterable[str], *, where: str
) -> dict[str, int]:
    """Our columns → positions among the columns that a file has.

    A mapped name must be there (an id's may be there in one table only); without a mapping the known aliases are tried
    in their order.

    Raises:
        SourceError: a mapped or required column is missing.
    """
    aliases = ROLES[role]
    positions: dict[str, int] = {}
    for ours, names in aliases.items():
        theirs = mapping.get(ours)
        position = _position(theirs, found) if theirs is not None else _by_alias(names, found)
        if position is None and theirs is not None and role != "ratings" and ours == c.ITEM_ID:
            position = _by_alias(names, found)
        if position is not None:
            positions[ours] = position
        elif theirs is not None and role in ("ratings", "titles"):
            raise _missing(role, ours, theirs, found, where)
    for ours in required:
        if ours not in positions:
            raise _missing(role, ours, None, found, where)
    return positions


def _position(theirs: str, found: Sequence[str]) -> int | None:
    if theirs in found:
        return found.index(theirs)
    alike = [n for n, name in enumerate(found) if plain(name) == plain(theirs)]
    return alike[0] if len(alike) == 1 else None


def _by_alias(names: Sequence[str], found: Sequence[str]) -> int | None:
    spelled = [plain(name) for name in found]
    return next((spelled.index(name) for name in names if name in spelled), None)


def _missing(role: str, ours: str, theirs: str | None, found: Sequence[str], where: str) -> SourceError:
    wanted = theirs if theirs is not None else ours
    near = difflib.get_close_matches(wanted, found, n=1, cutoff=0.5) or difflib.get_close_matches(
        plain(wanted), [plain(name) for name in found], n=1, cutoff=0.5
    )
    shown = ", ".join(repr(name) for name in found[:20]) + (", …" if len(found) > 20 else "")
    hint = f'{ours} = "{near[0] if near else "their name"}"'
    what = f"there is no column {wanted!r} for the {role}' {ours}; the columns are {shown or 'none'}"
    if theirs is None:
        known = ", ".join(ROLES[role][ours])
        what += f" (known without a mapping: {known})"
    return SourceError(what, where=where, remedy=f"name it under [source.columns], such as {hint}")
