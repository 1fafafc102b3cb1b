"""Titles of one catalogue found in another by their names and years. Knows nothing of where either comes from."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_ARTICLES = (
    "the|an|a|le|la|les|l|un|une|il|lo|gli|i|el|los|las|una|"
    "der|die|das|den|det|de|het|ein|eine|en|et|ett|o|os|as|um|uma"
)
_BEHIND = re.compile(rf"^(.*), ({_ARTICLES})'?$", re.IGNORECASE)
_BEFORE = re.compile(rf"^(?:{_ARTICLES}) (?=.)")
_TELLING = 6
"""Letters that a part of a title must have to name a film."""
_IN_BRACKETS = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True)
class Film:
    """A film of the catalogue that is searched."""

    key: int
    title: str
    year: int
    weight: float = 0.0
    """Of two that fit equally well, the heavier is taken."""


_Index = dict[str, list[Film]]


def spellings(title: str) -> list[str]:
    """A title's names in plain letters: itself, without its bracket, and what stands in brackets.

    Leading articles, articles behind a comma, accents, case and punctuation do not count.
    """
    names = [title, _IN_BRACKETS.sub(" ", title), *_IN_BRACKETS.findall(title)]
    plain = [_plain(name) for name in names]
    return list(dict.fromkeys(name for name in plain if name))


def match(wanted: Mapping[str, tuple[str, int | None]], films: Iterable[Film]) -> dict[str, int]:
    """The film of every title that has one: same name, same year or one beside it.

    A title's own name goes before its alternative names, the exact year before its neighbours. Where no name fits,
    a part of one does ("Return of the Jedi", "Star Wars: Episode VI – Return of the Jedi"), if of that year only one
    film has it.

    Args:
        wanted: item_id → title, year (None: the name must be there once only).
        films: the catalogue.

    Returns:
        item_id → key.
    """
    by_name: _Index = defaultdict(list)
    by_part: _Index = defaultdict(list)
    for film in films:
        for name in spellings(film.title):
            by_name[name].append(film)
        for part in _parts(film.title):
            by_part[part].append(film)
    found = {
        item: _best(title, year, by_name) or _by_part(title, year, by_part) for item, (title, year) in wanted.items()
    }
    return {item: film.key for item, film in found.items() if film is not None}


def _best(title: str, year: int | None, by_name: _Index) -> Film | None:
    ranked = list(_candidates(title, year, by_name))
    if year is None and len({film.key for _, film in ranked}) > 1:
        return None
    return min(ranked, key=lambda pair: (pair[0], -pair[1].weight, pair[1].key))[1] if ranked else None


def _candidates(title: str, year: int | None, by_name: _Index) -> Iterator[tuple[tuple[int, int], Film]]:
    for place, name in enumerate(spellings(title)):
        for film in by_name.get(name, ()):
            apart = 0 if year is None else abs(film.year - year)
            if apart <= 1:
                yield (apart, place), film


def _parts(title: str) -> list[str]:
    """A title's names and those of its parts before and behind a colon or a dash, if they say something."""
    parts = [part for name in re.split(r"[()]", title) for part in re.split(r":\s|\s[-–—]\s", name)]
    named = [_plain(part) for part in parts]
    return list(dict.fromkeys([*spellings(title), *(name for name in named if len(name) >= _TELLING)]))


def _by_part(title: str, year: int | None, by_part: _Index) -> Film | None:
    hits = {film.key: film for part in _parts(title) for film in by_part.get(part, ()) if film.year == year}
    return next(iter(hits.values())) if len(hits) == 1 else None


def _plain(name: str) -> str:
    behind = _BEHIND.match(name.strip())
    if behind:
        name = behind.group(1)
    letters = unicodedata.normalize("NFKD", name.lower().replace("&", " and "))
    letters = "".join(c for c in letters if not unicodedata.combining(c)).replace("'", "").replace("’", "")
    words = re.sub(r"[\W_]+", " ", letters).strip()
    return _BEFORE.sub("", words)
