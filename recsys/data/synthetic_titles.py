"""Titles for a made-up service. Their plots, people, genres and tags are those of the taste that they speak to.

Sixteen themes (genres) have three tastes each: the same genre, other words and other people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CHUNK = 8_192
_LISTS = ("genres", "cast", "directors", "tags")

THEMES: dict[str, tuple[str, str]] = {
    "Science Fiction": (
        "starship colony android signal orbit asteroid wormhole clone",
        "captain engineer pilot xenobiologist",
    ),
    "Crime": (
        "heist precinct informant vault cartel witness alibi ransom",
        "detective burglar sergeant fence",
    ),
    "Romance": (
        "letter wedding balcony engagement waltz orchard proposal summer",
        "florist violinist widow architect",
    ),
    "Horror": (
        "cellar ritual asylum curse marionette fog grave whisper",
        "priest medium caretaker orphan",
    ),
    "War": (
        "trench convoy regiment armistice bunker submarine medal siege",
        "medic general sniper deserter",
    ),
    "Western": (
        "saloon stagecoach ranch bounty canyon railroad rifle frontier",
        "sheriff outlaw drifter homesteader",
    ),
    "Sport": (
        "championship stadium relay comeback marathon rival penalty ring",
        "coach boxer goalkeeper sprinter",
    ),
    "Family": (
        "puppy treehouse birthday kite lighthouse circus pony snowman",
        "grandmother twin magician teacher",
    ),
    "Music": (
        "orchestra guitar chorus tour piano melody jukebox encore",
        "drummer singer conductor composer",
    ),
    "History": (
        "throne crusade treaty cathedral dynasty scroll empire plague",
        "queen monk emissary scribe",
    ),
    "Martial Arts": (
        "temple dojo blade tournament dragon scroll honour monastery",
        "master disciple swordsman assassin",
    ),
    "Politics": (
        "senate ballot scandal embassy speech cabinet strike archive",
        "senator reporter lobbyist minister",
    ),
    "Comedy": (
        "reunion motel karaoke misunderstanding inheritance cruise diet neighbour",
        "salesman cousin dentist landlord",
    ),
    "Fantasy": (
        "amulet kingdom goblin prophecy tower spell griffin portal",
        "wizard princess blacksmith ranger",
    ),
    "Documentary": (
        "glacier reef migration factory harvest volcano expedition village",
        "scientist fisherman farmer explorer",
    ),
    "Thriller": (
        "passport surveillance hostage blackout cipher detonator airport poison",
        "agent hacker diplomat courier",
    ),
}
"""Genre → things and people of its plots."""

MOST_TASTES = 3 * len(THEMES)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_MOODS = _words(
    "quiet slow tender bleak sly lavish brisk wry austere playful tense dreamy grim warm feverish deadpan "
    "lyrical raw elegant chaotic stark hopeful eerie bold"
)
_PLACES = _words(
    "Lisbon Kyoto Nairobi Oslo Bogota Tbilisi Dakar Hanoi Quebec Naples Galway Tangier Perth Krakow Jaipur Valdivia "
    "Reykjavik Havana Izmir Vilnius Busan Tunis Cusco Ghent"
)
_FIRST = _words(
    "Ada Bruno Carla Dmitri Elena Farid Greta Hiro Ines Jonas Keiko Luca Maya Nils Olga Pavel Qing Rosa Stefan Tariq "
    "Uma Viktor Wanda Ximena Yusuf Zoe Amara Bjorn Chidi Dalia Emeka Freya"
)
_LAST = _words(
    "Abara Bergstrom Castellano Dvorak Eriksen Fontaine Grigoryan Hoshino Ibanez Jankowski Kowalczyk Lindqvist Moreau "
    "Nakamura Okonkwo Petrov Quispe Rossi Sorensen Takeda Ulrich Varga Wexler Xu Yamada Zielinski Achebe Bianchi "
    "Cardoso Duarte Egede Ferrante Gallo Haugen Ito Jovanovic Keita Laurent Mbeki Novak"
)
_VERBS = _words("protect lose find betray inherit steal forgive rebuild follow remember hide trade")


@dataclass(frozen=True)
class _Voice:
    """What the titles of one taste draw on."""

    genre: str
    things: tuple[str, ...]
    roles: tuple[str, ...]
    moods: tuple[str, ...]
    places: tuple[str, ...]
    actors: tuple[str, ...]
    directors: tuple[str, ...]


def chunks(taste: NDArray[np.int64], tastes: int, seed: int, *, lists: bool) -> Iterator[pa.Table]:
    """The titles' table, some thousands at a time.

    Args:
        taste: [items] what each title speaks to.
        tastes: how many there are.
        seed: of the draw.
        lists: list columns as lists; else as "a|b|c".
    """
    rng = np.random.default_rng([seed, 4])
    voices = [_voice(rng, number) for number in range(tastes)]
    for start in range(0, len(taste), _CHUNK):
        part = taste[start : start + _CHUNK]
        drawn = np.random.default_rng([seed, 5, start])
        rows = [_title(drawn, start + n + 1, voices[number], voices) for n, number in enumerate(part)]
        yield pa.Table.from_pylist([_joined(row) for row in rows] if not lists else rows, schema=_schema(lists))


def _schema(lists: bool) -> pa.Schema:
    words = pa.list_(pa.string()) if lists else pa.string()
    names = ("movieId", "title", "year", *_LISTS, "plot")
    kinds = {"year": pa.int16(), **dict.fromkeys(_LISTS, words)}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])


def _joined(row: dict[str, object]) -> dict[str, object]:
    return {name: "|".join(value) if isinstance(value, list) else value for name, value in row.items()}


def _voice(rng: np.random.Generator, number: int) -> _Voice:
    genre = list(THEMES)[number % len(THEMES)]
    things, roles = (_words(words) for words in THEMES[genre])
    return _Voice(
        genre=genre,
        things=_some(rng, things, 5),
        roles=_some(rng, roles, 3),
        moods=_some(rng, _MOODS, 4),
        places=_some(rng, _PLACES, 4),
        actors=tuple(_person(rng) for _ in range(24)),
        directors=tuple(_person(rng) for _ in range(5)),
    )


def _title(rng: np.random.Generator, number: int, voice: _Voice, voices: list[_Voice]) -> dict[str, object]:
    thing, other = _some(rng, voice.things, 2)
    role, mood, place = _one(rng, voice.roles), _one(rng, voice.moods), _one(rng, voice.places)
    guest = voices[int(rng.integers(len(voices)))]
    shapes = (
        f"The {thing.title()} of {place}",
        f"The {mood.title()} {role.title()}",
        f"{thing.title()} and {other.title()}",
        f"A {role.title()} in {place}",
        f"{place} {thing.title()}",
        f"The {role.title()}'s {other.title()}",
    )
    verb, second = _some(rng, _VERBS, 2)
    return {
        "movieId": str(number),
        "title": _one(rng, shapes),
        "year": int(2022 - min(int(rng.exponential(14)), 90)),
        "genres": list(dict.fromkeys([voice.genre, guest.genre] if rng.random() < 0.4 else [voice.genre])),
        "cast": list(dict.fromkeys([*_some(rng, voice.actors, 4), _one(rng, guest.actors)])),
        "directors": [_one(rng, voice.directors)],
        "tags": list(
            dict.fromkeys([*_some(rng, voice.things, 2), *_some(rng, voice.moods, 2), _one(rng, guest.moods)])
        ),
        "plot": (
            f"In {place}, one {mood} {role} has to {verb} the {thing} before the {other} is gone. "
            f"A {_one(rng, guest.roles)} comes to {second} it, and no {_one(rng, voice.things)} stays hidden."
        ),
    }


def _person(rng: np.random.Generator) -> str:
    return f"{_one(rng, _FIRST)} {_one(rng, _LAST)}"


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _some(rng: np.random.Generator, words: tuple[str, ...], number: int) -> tuple[str, ...]:
    return tuple(words[n] for n in rng.permutation(len(words))[:number])
