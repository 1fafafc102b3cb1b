"""A service made up from a seed: users with tastes that drift, and titles whose words, people and genres carry them.

Popularity follows a power law, activity is log-normal, and a user watches in streaks of one taste, so that order tells.
Users are made in blocks, every block from its own stream of random numbers: memory does not grow with the service, and
the same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from recsys.artefacts import open_parquet_writer
from recsys.data import synthetic_titles
from recsys.data.sources.base import Note, silent
from recsys.errors import ConfigError

VERSION = 1
"""Raise when the same seed would give other data."""

Format = Literal["csv", "parquet"]

_BLOCK = 1 << 19
"""Ratings made at a time, about."""
_POPULARITY_EXPONENT = 0.9
_ACTIVITY_SIGMA = 1.0
_WANDERING = 0.15
"""Share of what is watched because everybody does, not out of taste."""
_STREAK = 0.7
"""Chance that the next title is of the same taste as the last."""
_FULLEST = 0.6
"""Most of the catalogue that one user rates."""
_FIRST_DAY, _DAYS = 1_420_070_400, 8 * 365
"""2015-01-01, and the days that the service has run."""
_ROUNDS = 12

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATINGS_SCHEMA = pa.schema(
    [("userId", pa.int64()), ("movieId", pa.int64()), ("rating", pa.float32()), ("timestamp", pa.int64())]
)
"""In MovieLens' own names, as files have them."""


@dataclass(frozen=True)
class Service:
    """The size of a service, and its seed."""

    users: int
    items: int
    interactions: int
    seed: int = 0

    def check(self) -> None:
        """Refuse what does not fit.

        Raises:
            ConfigError: more ratings than users can give, or fewer than one a user.
        """
        most = self.users * _most_per_user(self.items)
        if not self.users <= self.interactions <= most:
            raise ConfigError(
                f"{self.interactions:,} ratings cannot be shared among {self.users:,} users and {self.items:,} titles",
                where="users, items, interactions",
                remedy=f"set interactions between {self.users:,} and {most:,}",
            )


@dataclass(frozen=True)
class _Catalogue:
    """What titles are to users."""

    tastes: int
    taste: Ints
    """[items] the taste that a title speaks to."""
    quality: Floats
    """[items] what everybody adds to its rating."""
    order: Ints
    """[items] titles by taste."""
    cumulative: Floats
    """[items + 1] popularity, summed up in that order."""
    starts: Ints
    """[tastes + 1] where each taste begins in it."""
    prevalence: Floats
    """[tastes] how common each taste is among users."""


def write_synthetic(
    folder: Path,
    *,
    users: int,
    items: int,
    interactions: int,
    seed: int = 0,
    format: Format = "csv",
    note: Note = silent,
) -> tuple[Path, Path]:
    """Write a made-up service as files: ``ratings`` and ``titles``, as CSV or Parquet.

    Args:
        folder: made if it is not there.
        users: number of users; each has at least one rating.
        items: number of titles; unpopular ones may stay without a rating.
        interactions: number of ratings, exactly.
        seed: the same seed, the same bytes.
        format: csv (lists as "a|b|c") or parquet.
        note: hears how far it is.

    Returns:
        The paths of the two files.

    Raises:
        ConfigError: the numbers do not fit each other.
    """
    service = Service(users, items, interactions, seed)
    service.check()
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = _catalogue(service)
    titles = folder / f"titles.{format}"
    _write(titles, synthetic_titles.chunks(catalogue.taste, catalogue.tastes, seed, lists=format == "parquet"), format)
    ratings = folder / f"ratings.{format}"
    _write(ratings, _counted(_ratings(service, catalogue), interactions, note), format)
    return ratings, titles


def _write(path: Path, tables: Iterator[pa.Table], format: Format) -> None:
    first = next(tables)
    with ExitStack() as stack:
        if format == "parquet":
            writer = stack.enter_context(open_parquet_writer(path, first.schema))
        else:
            writer = stack.enter_context(pyarrow.csv.CSVWriter(path, first.schema, write_options=_CSV))
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


_CSV = pyarrow.csv.WriteOptions(quoting_style="needed", quoting_header="none")


def _counted(tables: Iterator[pa.Table], total: int, note: Note) -> Iterator[pa.Table]:
    done, said = 0, 0
    for table in tables:
        yield table
        done += len(table)
        if done - said >= 5_000_000:
            said = done
            note(f"{done:,} of {total:,} ratings made up")


def _most_per_user(items: int) -> int:
    return max(1, int(_FULLEST * items))


def _catalogue(service: Service) -> _Catalogue:
    rng = np.random.default_rng([service.seed, 1])
    tastes = int(np.clip(service.items // 8, 1, synthetic_titles.MOST_TASTES))
    taste = rng.permutation(np.arange(service.items) % tastes)
    weight = (rng.permutation(service.items) + 10.0) ** -_POPULARITY_EXPONENT
    order = np.argsort(taste, kind="stable")
    return _Catalogue(
        tastes=tastes,
        taste=taste,
        quality=rng.normal(0, 0.35, service.items),
        order=order,
        cumulative=np.concatenate([[0.0], np.cumsum(weight[order])]),
        starts=np.searchsorted(taste[order], np.arange(tastes + 1)),
        prevalence=rng.dirichlet(np.full(tastes, 3.0)),
    )


def _activity(service: Service) -> Ints:
    """[users] Ratings per user: log-normal, at least one, and exactly as many in all as asked for."""
    rng = np.random.default_rng([service.seed, 2])
    share = rng.lognormal(0.0, _ACTIVITY_SIGMA, service.users)
    most = _most_per_user(service.items)
    counts: Ints = np.clip((share / share.sum() * service.interactions).astype(np.int64), 1, most)
    while missing := service.interactions - int(counts.sum()):
        able = np.flatnonzero(counts < most if missing > 0 else counts > 1)
        picked = rng.permutation(able)[: abs(missing)]
        counts[picked] += np.sign(missing)
    return counts


def _ratings(service: Service, catalogue: _Catalogue) -> Iterator[pa.Table]:
    counts = _activity(service)
    ends = np.cumsum(counts)
    first = 0
    while first < service.users:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK)))
        rng = np.random.default_rng([service.seed, 3, first])
        yield _block(rng, catalogue, counts[first:last], first)
        first = last


def _block(rng: np.random.Generator, catalogue: _Catalogue, counts: Ints, first: int) -> pa.Table:
    """The ratings of some users, by user then time."""
    tastes = _Tastes.drawn(rng, catalogue, len(counts))
    user, item, when = _watched(rng, catalogue, tastes, counts)
    order = np.lexsort((when, user))
    user, item, when = user[order], item[order], when[order]
    rating = _rated(rng, catalogue, tastes, user, item, when)
    return pa.table(
        [
            pa.array(user + first + 1),
            pa.array(item + 1),
            pa.array(rating, pa.float32()),
            pa.array(_seconds(rng, user, when, len(counts))),
        ],
        schema=RATINGS_SCHEMA,
    )


@dataclass(frozen=True)
class _Tastes:
    """What users of a block like: from one mixture of tastes to another in the course of their time."""

    early: Floats
    """[users, tastes] summed up along the tastes."""
    late: Floats
    likes_early: Floats
    """[users, tastes] as shares."""
    likes_late: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, catalogue: _Catalogue, users: int) -> _Tastes:
        spread = 12.0 * catalogue.prevalence / catalogue.prevalence.max() / catalogue.tastes + 0.02
        early, late = (rng.dirichlet(spread, users) for _ in range(2))
        late = 0.4 * early + 0.6 * late
        return cls(np.cumsum(early, axis=1), np.cumsum(late, axis=1), early, late)

    def draw(self, rng: np.random.Generator, user: Ints, when: Floats) -> Ints:
        """[n] A taste for every user at a time in 0…1."""
        late = rng.random(len(user)) < when
        at = rng.random(len(user))
        taste = np.empty(len(user), np.int64)
        for summed, mask in ((self.early, ~late), (self.late, late)):
            taste[mask] = _pick_rows(summed, user[mask], at[mask])
        return taste


def _pick_rows(summed: Floats, rows: Ints, at: Floats) -> Ints:
    """For each row number, the first column whose running sum exceeds ``at``; in pieces, so that memory is bounded."""
    picked = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), 1 << 16):
        piece = slice(start, start + (1 << 16))
        picked[piece] = (summed[rows[piece]] < at[piece, None]).sum(axis=1)
    return picked.clip(max=summed.shape[1] - 1)


def _watched(
    rng: np.random.Generator, catalogue: _Catalogue, tastes: _Tastes, counts: Ints
) -> tuple[Ints, Ints, Floats]:
    """Who watched what and when (0…1 of their time): ``counts`` different titles per user, unordered."""
    items = len(catalogue.taste)
    missing = counts
    keys, times = np.empty(0, np.int64), np.empty(0)
    for round_ in range(_ROUNDS):
        user = np.repeat(np.arange(len(counts)), missing)
        when = rng.random(len(user))
        if round_ == 0:
            when = when[np.lexsort((when, user))]
        taste = tastes.draw(rng, user, when)
        if round_ == 0:
            taste = _streaks(rng, user, taste)
        drawn = user * items + _titles(rng, catalogue, taste)
        keys, times = np.concatenate([keys, drawn]), np.concatenate([times, when])
        keys, firsts = np.unique(keys, return_index=True)
        times = times[firsts]
        missing = counts - np.bincount(keys // items, minlength=len(counts))
        if not missing.any():
            break
    keys, times = _filled_up(rng, keys, times, items, missing)
    return keys // items, keys % items, times


def _streaks(rng: np.random.Generator, user: Ints, taste: Ints) -> Ints:
    """Let tastes last: each draw is kept or gives way to the one before it of the same user."""
    new = rng.random(len(user)) >= _STREAK
    new[np.flatnonzero(np.diff(user, prepend=-1))] = True
    last: Ints = np.maximum.accumulate(np.where(new, np.arange(len(user)), 0))
    return taste[last]


def _titles(rng: np.random.Generator, catalogue: _Catalogue, taste: Ints) -> Ints:
    """A title for every draw, by popularity: within the taste, or (wandering) of the whole catalogue."""
    wanders = rng.random(len(taste)) < _WANDERING
    low = np.where(wanders, 0.0, catalogue.cumulative[catalogue.starts[taste]])
    high = np.where(wanders, catalogue.cumulative[-1], catalogue.cumulative[catalogue.starts[taste + 1]])
    at = low + rng.random(len(taste)) * (high - low)
    place = np.searchsorted(catalogue.cumulative, at, side="right") - 1
    titles: Ints = catalogue.order[place.clip(0, len(catalogue.order) - 1)]
    return titles


def _filled_up(rng: np.random.Generator, keys: Ints, times: Floats, items: int, missing: Ints) -> tuple[Ints, Floats]:
    """Give the few users whom chance has left short titles that they lack."""
    more = [
        user * items + rng.permutation(np.setdiff1d(np.arange(items), _held(keys, user, items)))[: missing[user]]
        for user in np.flatnonzero(missing).tolist()
    ]
    added = np.concatenate([np.empty(0, np.int64), *more])
    return np.concatenate([keys, added]), np.concatenate([times, rng.random(len(added))])


def _held(keys: Ints, user: int, items: int) -> Ints:
    low, high = np.searchsorted(keys, [user * items, (user + 1) * items])
    return keys[low:high] % items


def _rated(
    rng: np.random.Generator, catalogue: _Catalogue, tastes: _Tastes, user: Ints, item: Ints, when: Floats
) -> Floats:
    """[n] Half stars from 0.5 to 5: what the user likes then, the title's quality, the user's mood, and chance."""
    taste = catalogue.taste[item]
    liking = (1 - when) * tastes.likes_early[user, taste] + when * tastes.likes_late[user, taste]
    mood = rng.normal(0, 0.4, len(tastes.early))[user]
    value = 2.7 + 2.4 * np.sqrt(liking) + catalogue.quality[item] + mood + rng.normal(0, 0.6, len(user))
    return np.clip(np.round(value * 2) / 2, 0.5, 5.0)


def _seconds(rng: np.random.Generator, user: Ints, when: Floats, users: int) -> Ints:
    """[n] Unix times that keep the order of ``when`` within a user, who comes and goes within the service's days."""
    comes = rng.random(users) * 0.8
    stays = (1 - comes) * (0.1 + 0.9 * rng.random(users))
    return _FIRST_DAY + ((comes[user] + stays[user] * when) * _DAYS * 86_400).astype(np.int64)
