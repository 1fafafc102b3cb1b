"""A registered model as a directory: all that is needed to compare it on a later night, and to answer with it.

::

    bundle.json          what it is and how it was measured (:class:`BundleInfo`)
    item_ids.parquet     its titles' ids, by its own numbers
    titles.parquet       their metadata, aligned
    users.parquet        the users known when it was fitted …
    histories/           … and their interactions: so it answers by user_id
    per_user.parquet     its test metrics, user by user, under hashed names
    measured/            the copy fitted without the test window: what later nights compare with
    serving/             the copy refitted on everything: what answers

Knows nothing of registries, nor of which models there are: a loader by family is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys import columns
from recsys.artefacts import ArtefactRef, read_table, verify, write_table, write_text
from recsys.catalogue import eligible
from recsys.config import SplitStrategy
from recsys.data.ids import MISSING, IdMap
from recsys.errors import ArtefactError
from recsys.fallback import Fallback
from recsys.histories import Bools, Floats, Histories
from recsys.privacy import hashed
from recsys.recommend import recommend, unwatched
from recsys.scoring import Scorer
from recsys.topk import NO_ITEM

BUNDLE_SCHEMA = 1
TEXT_READERS = frozenset({"ncf", "blend"})
"""Families that know titles from their text, before anybody has watched them."""
USER = "user"
"""The column of hashed user names in ``per_user.parquet``."""

Copy = Literal["measured", "serving"]
LoadScorer = Callable[[str, Path], Scorer]
"""(family, folder) → the scorer that was saved there."""


class SplitFacts(BaseModel):
    """How the measured copy's test window was cut: later nights compare only with what was cut alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: SplitStrategy
    test_fraction: float
    validation_fraction: float
    seed: int


class Comparison(BaseModel):
    """The model against a rival on the same users: mean difference with its interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rival: str
    metric: str
    difference: float
    low: float
    high: float
    confidence: float = 0.95


class BundleInfo(BaseModel):
    """What a bundle is, how it was made and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = BUNDLE_SCHEMA
    family: str
    """Which scorer the copies are, for the loader: ncf, ease, …"""
    run_date: date
    seed: int
    ordered: bool
    """Whether histories have an order (time): a visitor's list then counts oldest first."""
    positive_from: float
    split: SplitFacts
    digests: dict[str, str] = Field(default_factory=dict)
    """Of what it was made from: dataset, split, …; ``items`` (its id map) is filled in."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """The measured copy's figures on the test window."""
    rivals: dict[str, dict[str, float]] = Field(default_factory=dict)
    """The same figures of every other candidate of that night."""
    comparisons: tuple[Comparison, ...] = ()
    """Against the baselines and the champion of that night."""
    min_history: int = 1
    """Users with fewer positive interactions get popular titles."""
    new_titles: float = 0.0
    """Least share of a list's places that goes to titles that nobody has watched."""
    blocked: tuple[str, ...] = ()
    """item_ids that it never lists."""
    region: str | None = None
    licence: str | None = None
    """Of the ratings it was fitted on."""
    citation: str | None = None
    n_users: int = 0
    """Filled in when it is written."""
    n_items: int = 0
    """Filled in when it is written."""


def write_bundle(
    folder: Path,
    info: BundleInfo,
    *,
    items: IdMap,
    titles: pa.Table,
    users: IdMap,
    histories: Histories,
    measured: Scorer,
    serving: Scorer,
    per_user: pa.Table | None = None,
) -> BundleInfo:
    """Write a bundle's files into a folder (an artefact's draft).

    Args:
        folder: where to; made if need be.
        info: its facts; numbers of users and titles and the id map's digest are filled in.
        items: the titles' ids.
        titles: their metadata, exactly one row per title, in the id map's order.
        users: the users' ids.
        histories: their interactions that may be known when serving.
        measured: the copy that has not seen the test window.
        serving: the copy refitted on everything.
        per_user: see :func:`per_user_table`.

    Raises:
        ArtefactError: the parts are not over the same titles and users.
    """
    sizes = {
        "the metadata": titles.num_rows,
        "the histories": histories.n_items,
        "the measured copy": measured.n_items,
        "the serving copy": serving.n_items,
    }
    wrong = [f"{name} has {size}" for name, size in sizes.items() if size != len(items)]
    if wrong or histories.n_users != len(users):
        wrong = wrong or [f"there are {histories.n_users} histories of {len(users)} users"]
        raise ArtefactError(
            f"the model's parts are not over the same data: the id map has {len(items)} titles, {'; '.join(wrong)}",
            where=str(folder),
            remedy="make the bundle from the split that the model was fitted on",
        )
    whole = info.model_copy(
        update={"n_users": len(users), "n_items": len(items), "digests": {**info.digests, "items": items.digest}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "bundle.json", whole.model_dump_json(indent=1) + "\n")
    items.save(folder / "item_ids.parquet", columns.ITEM_ID)
    write_table(folder / "titles.parquet", titles)
    users.save(folder / "users.parquet", columns.USER_ID)
    histories.save(folder / "histories")
    if per_user is not None:
        write_table(folder / "per_user.parquet", per_user)
    for name, scorer in (("measured", measured), ("serving", serving)):
        (folder / name).mkdir(exist_ok=True)
        scorer.save(folder / name)
    return whole


def per_user_table(user_ids: Sequence[str], metrics: Mapping[str, NDArray[np.floating]]) -> pa.Table:
    """Test metrics user by user, under hashed names, sorted by them.

    Args:
        user_ids: of the users that were measured.
        metrics: name → [n] figures, NaN where undefined.
    """
    names = np.array([hashed(user_id) for user_id in user_ids], dtype=str)
    order = np.argsort(names, kind="stable")
    figures = {name: pa.array(np.asarray(values, np.float32)[order]) for name, values in metrics.items()}
    return pa.table({USER: pa.array(names[order].tolist(), pa.string()), **figures})


def translate(histories: Histories, from_items: IdMap, to_items: IdMap) -> tuple[Histories, int]:
    """The same histories over another id map.

    Returns:
        the histories without titles that ``to_items`` does not know, and how many entries those were.
    """
    numbers = to_items.numbers(from_items.ids, missing="mark")
    mapped = numbers[histories.item_nums]
    known = mapped != MISSING
    kept = histories.where(known)
    return replace(kept, item_nums=mapped[known], n_items=len(to_items)), int((~known).sum())


class TranslatedScorer:
    """A scorer of another catalogue's titles, seen over tonight's: how a past champion is compared.

    Titles that it does not know rank below all that it does, equal among themselves.
    """

    def __init__(self, scorer: Scorer, scorer_items: IdMap, items: IdMap) -> None:
        self._scorer = scorer
        self._scorer_items = scorer_items
        self._items = items
        self._numbers = scorer_items.numbers(items.ids, missing="mark")  # tonight's number → the scorer's

    @property
    def n_items(self) -> int:
        """Number of tonight's titles."""
        return len(self._items)

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items] over tonight's titles, from what the scorer knows of tonight's histories."""
        theirs, _ = translate(histories, self._items, self._scorer_items)
        scores = self._scorer.scores(theirs)  # [n_users, the scorer's titles]
        known = self._numbers != MISSING
        lowest = scores.min(axis=1, keepdims=True, initial=0.0)
        ours = np.repeat(lowest - 1 - np.abs(lowest) * 1e-3, self.n_items, axis=1).astype(np.float32)
        ours[:, known] = scores[:, self._numbers[known]]
        return ours

    def save(self, folder: Path) -> None:
        """Refuse: the model beneath is what is kept."""
        raise ArtefactError("a champion seen over tonight's titles is not a model to keep", where=str(folder))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Refuse: see :meth:`save`."""
        raise ArtefactError("a champion seen over tonight's titles is not a model to keep", where=str(folder))


@dataclass(frozen=True)
class Answer:
    """What a user is recommended."""

    item_ids: list[str]
    """Best first."""
    scores: list[float]
    popular: bool
    """Whether too little was known of the user, so that these are popular titles."""


@dataclass(frozen=True)
class Bundle:
    """A registered model, opened. Its copies are loaded when they are first asked for."""

    folder: Path
    info: BundleInfo
    items: IdMap
    users: IdMap
    load_scorer: LoadScorer

    @cached_property
    def measured(self) -> Scorer:
        """The copy that has not seen its night's test window."""
        return self._copy("measured")

    @cached_property
    def serving(self) -> Scorer:
        """The copy that answers."""
        return self._copy("serving")

    def _copy(self, copy: Copy) -> Scorer:
        scorer = self.load_scorer(self.info.family, self.folder / copy)
        if scorer.n_items != len(self.items):
            raise ArtefactError(
                f"the {copy} copy scores {scorer.n_items} titles, the id map has {len(self.items)}",
                where=str(self.folder),
                remedy="the bundle was put together wrongly; register another version",
            )
        return scorer

    @cached_property
    def titles(self) -> pa.Table:
        """Metadata by the bundle's title numbers."""
        return read_table(self.folder / "titles.parquet")

    @cached_property
    def histories(self) -> Histories:
        """Interactions of the users known when it was fitted, memory-mapped."""
        return Histories.load(self.folder / "histories")

    @cached_property
    def per_user(self) -> pa.Table | None:
        """Test metrics user by user, or None where they were not kept."""
        path = self.folder / "per_user.parquet"
        return read_table(path) if path.is_file() else None

    @cached_property
    def _fallback(self) -> Fallback:
        return Fallback.of(self.histories)

    def over(self, items: IdMap, copy: Copy = "measured") -> Scorer:
        """One of its copies over other titles' numbers (itself where they are the same)."""
        scorer = self.measured if copy == "measured" else self.serving
        return scorer if items == self.items else TranslatedScorer(scorer, self.items, items)

    @cached_property
    def _unwatched(self) -> Bools | None:
        return unwatched(self.histories) if self.reads_text else None

    @property
    def reads_text(self) -> bool:
        """Whether the model knows titles that nobody has watched, from their text."""
        return self.info.family in TEXT_READERS

    def answer_users(self, user_ids: Sequence[str | None], n: int) -> list[Answer]:
        """The n best unseen titles of users by id; popular titles for those it does not know."""
        numbers = self.users.numbers(pa.array(list(user_ids), pa.string()), missing="mark")
        popular = self.score_users([[]], n)[0]
        answers = [popular] * len(numbers)
        known = np.flatnonzero(numbers != MISSING)
        for place, answer in zip(known.tolist(), self.answer(self.histories.select(numbers[known]), n), strict=True):
            answers[place] = answer
        return answers

    def score_users(self, histories: Sequence[Sequence[str]], n: int) -> list[Answer]:
        """The n best unseen titles of users given by the item ids they liked, oldest first.

        Unknown titles are ignored; a repeated title counts at its last place; who is left with fewer titles than
        ``min_history`` gets popular ones. Equal scores are listed by title number.
        """
        lengths = [len(row) for row in histories]
        flat = [item_id for row in histories for item_id in row]
        numbers = self.items.numbers(pa.array(flat, pa.string()), missing="mark")
        rows = np.split(numbers, np.cumsum(lengths)[:-1]) if lengths else []
        known = [row[row != MISSING].tolist() for row in rows]
        return self.answer(Histories.of_lists(known, len(self.items), ordered=self.info.ordered), n)

    def answer(self, histories: Histories, n: int) -> list[Answer]:
        """The n best unseen titles that may be shown on the bundle's run date, for histories over its own titles."""
        info = self.info
        listable = eligible(self.titles, info.run_date, blocked=info.blocked, region=info.region)
        answers = []
        lists = recommend(
            self.serving,
            histories,
            self._fallback,
            n=n,
            listable=listable,
            min_history=info.min_history,
            new=self._unwatched,
            new_share=info.new_titles,
        )
        for block in lists:
            for items, scores, popular in zip(block.items, block.scores, block.fallback, strict=True):
                filled = items != NO_ITEM
                ids = self.items.external(items[filled]).to_pylist()
                answers.append(Answer(ids, scores[filled].tolist(), bool(popular)))
        return answers


def load_bundle(folder: Path, *, load_scorer: LoadScorer, verified: bool = True) -> Bundle:
    """Open a bundle.

    Args:
        folder: a ``model`` artefact's directory, or a copy of it (its manifest included).
        load_scorer: from a family's name and a folder to the scorer saved there (``recsys.families.load_scorer``).
        verified: check every file's SHA-256 against the manifest first.

    Raises:
        ArtefactError: a file is missing or damaged, or a newer Marquee wrote it.
    """
    if verified:
        verify(ArtefactRef(kind="model", path=str(folder), digest=folder.name))
    path = folder / "bundle.json"
    try:
        info = BundleInfo.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError("there is no bundle here", where=str(path), remedy="name a model's directory") from None
    except ValidationError as error:
        raise ArtefactError(
            f"the bundle's description cannot be read ({error.error_count()} faults)",
            where=str(path),
            remedy="a newer Marquee may have written it: use that one, or register a version anew",
        ) from None
    items = IdMap.load(folder / "item_ids.parquet")
    users = IdMap.load(folder / "users.parquet")
    if items.digest != info.digests.get("items"):
        raise ArtefactError("the titles' ids are not those it was fitted on", where=str(folder / "item_ids.parquet"))
    return Bundle(folder, info, items, users, load_scorer)
