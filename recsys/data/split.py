"""The split: numbered users and titles, and which interaction belongs to which window.

Three windows per strategy: train (0), validation (1) and test (2). Models are chosen on validation and compared on
test; the second stage learns on validation what the towers fitted on train do not know. Under strong generalisation
the windows are made of users, and those of validation and test have some of their history read ("folded in").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns
from recsys.artefacts import read_table, write_table
from recsys.config import SplitStrategy
from recsys.data.ids import MISSING, IdMap
from recsys.errors import SourceError
from recsys.histories import Bools, Histories, Longs, evenly_spaced

TRAIN, VALIDATION, TEST = 0, 1, 2
UNORDERED: tuple[SplitStrategy, ...] = ("random", "strong-generalisation")
"""Strategies that draw the targets by lot: the order of time is dropped, since it would tell of what is held out."""
_ROWS_AT_ONCE = 1 << 20
_NO_TIME = int(np.iinfo(np.int64).min)
FOLD_IN = 0.8
"""Strong generalisation: the share of a held-out user's interactions that is read (Liang et al., WWW 2018)."""


@dataclass(frozen=True)
class Split:
    """Interactions of all users over all titles, each in one window."""

    users: IdMap
    items: IdMap
    interactions: Histories
    part: NDArray[np.int8]
    """[n] TRAIN, VALIDATION or TEST of every interaction."""
    titles: pa.Table
    """Metadata by item number: exactly one row per title of ``items``, null where nothing is known."""
    strategy: SplitStrategy
    """As it was carried out: random where there are no timestamps."""
    fold_in: Bools | None = None
    """[n] strong generalisation: which interactions of held-out users are read when their window is measured."""

    def upto(self, part: int) -> Histories:
        """Interactions of the windows up to and including ``part``: what a model may be fitted on."""
        return self.interactions.where(self.part <= part)

    def known(self, part: int) -> Histories:
        """What a model may read when it is measured on a window.

        The windows before it (train for VALIDATION, train and validation for TEST); under strong generalisation also
        the fold-in interactions of the window's own users, of whom the windows before hold nothing.
        """
        before = self.part < part
        return self.interactions.where(
            before if self.fold_in is None else before | ((self.part == part) & self.fold_in)
        )

    def targets(self, part: int) -> Histories:
        """Positive interactions of one window that are not folded in: what should have been recommended."""
        wanted = (self.part == part) & self.interactions.positive
        return self.interactions.where(wanted if self.fold_in is None else wanted & ~self.fold_in)

    def asked(self, part: int, most: int) -> Histories:
        """:meth:`targets` of at most ``most`` users, evenly spaced; the others have none."""
        targets = self.targets(part)
        users = np.flatnonzero(targets.lengths > 0)
        if len(users) <= most:
            return targets
        chosen = np.zeros(targets.n_users, np.bool_)
        chosen[evenly_spaced(users, most)] = True
        return targets.where(chosen[targets.user_nums])

    @property
    def train(self) -> Histories:
        """The train window."""
        return self.upto(TRAIN)

    @property
    def fit(self) -> Histories:
        """Train and validation: what a model that is measured on test may be fitted on."""
        return self.upto(VALIDATION)

    def save(self, folder: Path) -> None:
        """Write the split's files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.users.save(folder / "users.parquet", columns.USER_ID)
        self.interactions.save(folder / "interactions")
        np.save(folder / "part.npy", self.part, allow_pickle=False)
        if self.fold_in is not None:
            np.save(folder / "fold_in.npy", self.fold_in, allow_pickle=False)
        write_table(folder / "titles.parquet", self.titles, sorted_by=(columns.ITEM_ID,))
        (folder / "split.json").write_text(json.dumps({"strategy": self.strategy}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what :meth:`save` wrote; interactions stay memory-mapped."""
        titles = read_table(folder / "titles.parquet")
        folded = folder / "fold_in.npy"
        return cls(
            users=IdMap.load(folder / "users.parquet"),
            items=IdMap(titles[columns.ITEM_ID].combine_chunks()),
            interactions=Histories.load(folder / "interactions"),
            part=np.load(folder / "part.npy", mmap_mode="r", allow_pickle=False),
            titles=titles,
            strategy=json.loads((folder / "split.json").read_text())["strategy"],
            fold_in=np.load(folded, mmap_mode="r", allow_pickle=False) if folded.exists() else None,
        )


def make_split(
    ratings: Path,
    titles: pa.Table,
    *,
    positive_from: float,
    strategy: SplitStrategy = "per-user-temporal",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
    seed: int = 0,
) -> Split:
    """Number users and titles, and divide the interactions of a validated dataset.

    Args:
        ratings: Parquet in the schema ``columns.RATINGS``, sorted by user then time, no duplicates.
        titles: table in the schema ``columns.TITLES``; may be empty.
        positive_from: least positive rating, in the ratings' own scale.
        strategy: see :class:`recsys.config.SplitConfig`.
        test_fraction: share of a user's interactions (global-temporal: of all; strong generalisation: of the users)
            in test.
        validation_fraction: share of what remains in validation.
        seed: of the strategies that draw. The draw depends on ids alone, so that it stays when rows are added.

    Raises:
        SourceError: nothing positive is left to learn from.
    """
    users, items = id_maps(ratings, titles)
    interactions = read_histories(ratings, users, items, positive_from=positive_from)
    if not bool(interactions.positive.any()):
        raise SourceError(
            f"no rating is positive (at least {positive_from:g})",
            where=str(ratings),
            remedy="set [ratings] positive_from to a value that the ratings reach",
        )
    if not interactions.ordered and strategy not in UNORDERED:
        strategy = "random"
    if strategy in UNORDERED:
        interactions = interactions.unordered()
    fold_in = None
    if strategy == "strong-generalisation":
        part, fold_in = _held_out_users(interactions, users, items, test_fraction, validation_fraction, seed)
    elif strategy == "random":
        part = _random(interactions, users, items, test_fraction, validation_fraction, seed)
    else:
        part = _temporal(interactions, strategy, test_fraction, validation_fraction)
    if not bool((interactions.positive & (part == TRAIN)).any()):
        raise SourceError(
            f"the {strategy} split leaves nothing positive to learn from",
            where=str(ratings),
            remedy="set smaller [split] fractions or another strategy, or bring more data",
        )
    return Split(users, items, interactions, part, align_titles(titles, items), strategy, fold_in)


def id_maps(ratings: Path, titles: pa.Table) -> tuple[IdMap, IdMap]:
    """Users of a ratings file, and its titles together with those of the catalogue."""
    user_ids, item_ids = [], [pc.unique(titles[columns.ITEM_ID]).cast(pa.string())]
    for batch in _encoded(ratings).iter_batches(columns=[columns.USER_ID, columns.ITEM_ID], batch_size=1 << 20):
        user_ids.append(batch[columns.USER_ID].dictionary)
        item_ids.append(batch[columns.ITEM_ID].dictionary)
    return IdMap.of(pa.chunked_array(user_ids, pa.string())), IdMap.of(pa.chunked_array(item_ids, pa.string()))


def read_histories(ratings: Path, users: IdMap, items: IdMap, *, positive_from: float) -> Histories:
    """All interactions of a ratings file over given id maps. Rows of unknown users or titles are left out."""
    file = _encoded(ratings)
    n, done = file.metadata.num_rows, 0
    kinds = {"user": np.int32, "item": np.int32, "rating": np.float32, "time": np.int64}
    rows: dict[str, NDArray[Any]] = {name: np.empty(n, kind) for name, kind in kinds.items()}
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
        at = slice(done, done + len(batch))
        rows["user"][at] = _numbered(users, batch[columns.USER_ID])
        rows["item"][at] = _numbered(items, batch[columns.ITEM_ID])
        rows["rating"][at] = batch[columns.RATING].to_numpy(zero_copy_only=False)
        rows["time"][at] = pc.fill_null(batch[columns.TIMESTAMP].cast(pa.int64()), _NO_TIME)
        done += len(batch)
    starts = range(0, n, _ROWS_AT_ONCE)
    ordered = n > 0 and all((rows["time"][s : s + _ROWS_AT_ONCE] != _NO_TIME).any() for s in starts)
    known = (rows["user"] >= 0) & (rows["item"] >= 0)
    if not known.all():
        rows = {name: values[known] for name, values in rows.items()}
    return histories_of(rows, users, items, positive_from, ordered)


def _encoded(ratings: Path) -> pq.ParquetFile:
    return pq.ParquetFile(ratings, page_checksum_verification=True, read_dictionary=[columns.USER_ID, columns.ITEM_ID])


def _numbered(ids: IdMap, column: pa.DictionaryArray) -> NDArray[np.int32]:
    """The numbers of a dictionary-encoded column; each distinct id is looked up once."""
    known = np.append(ids.numbers(column.dictionary, missing="mark"), np.int32(MISSING))
    numbers: NDArray[np.int32] = known[np.asarray(column.indices.fill_null(len(known) - 1))]
    return numbers


Numbered: TypeAlias = pd.DataFrame | Mapping[str, NDArray[Any]]
"""Rows as columns: user, item (numbers), rating and time."""


def histories_of(rows: Numbered, users: IdMap, items: IdMap, positive_from: float, ordered: bool) -> Histories:
    """Histories from numbered rows (user, item, rating, time), each user's in time order.

    What carries one and the same time is put in an order that depends on the ids alone and means nothing: by item
    number it would follow popularity in catalogues that number their titles by age, and be learned.
    """
    user = np.asarray(rows["user"])
    order = time_order(rows, users, items) if ordered else np.lexsort((rows["item"], user))
    rating = np.asarray(rows["rating"])[order]
    return Histories(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(users)))]).astype(np.int64),
        item_nums=np.asarray(rows["item"])[order].astype(np.int32, copy=False),
        ratings=rating.astype(np.float32, copy=False),
        positive=np.isnan(rating) | (rating >= positive_from),
        timestamps=np.asarray(rows["time"])[order].astype(np.int64, copy=False) if ordered else None,
        n_items=len(items),
    )


def time_order(rows: Numbered, users: IdMap, items: IdMap) -> NDArray[np.intp]:
    """The places of rows by user, then time, equal times in a drawn order: the same for the same rows in any order."""
    user, item, time = (np.asarray(rows[name]) for name in ("user", "item", "time"))
    follows = (user[1:] > user[:-1]) | ((user[1:] == user[:-1]) & (time[1:] >= time[:-1]))
    if not follows.all():
        return np.lexsort((pair_hash(user, item, users, items, seed=0), time, user))
    order = np.arange(len(user))  # as a dataset lies: only what is equal in time is to be put in order
    same = np.concatenate([[False], (user[1:] == user[:-1]) & (time[1:] == time[:-1])])
    tied = np.flatnonzero(same | np.append(same[1:], False))
    ties = pair_hash(user[tied], item[tied], users, items, seed=0)
    order[tied] = tied[np.lexsort((ties, np.cumsum(~same[tied])))]
    return order


def _temporal(
    interactions: Histories, strategy: SplitStrategy, test_fraction: float, validation_fraction: float
) -> NDArray[np.int8]:
    lengths = interactions.lengths
    if strategy == "global-temporal":
        assert interactions.timestamps is not None
        cut = np.quantile(interactions.timestamps, 1 - test_fraction)
        fit = interactions.timestamps < cut
        if not fit.any():  # one moment for nearly everything: there is no before
            return np.full(len(fit), TEST, np.int8)
        return _parts(interactions.timestamps < np.quantile(interactions.timestamps[fit], 1 - validation_fraction), fit)
    if strategy == "leave-last-out":
        n_fit = np.maximum(lengths - 1, 1)
        n_train = np.maximum(n_fit - 1, 1)
    else:
        n_fit = first_share(lengths, 1 - test_fraction)
        n_train = first_share(n_fit, 1 - validation_fraction)
    place = np.arange(len(interactions.item_nums)) - np.repeat(interactions.indptr[:-1], lengths)
    return _parts(place < np.repeat(n_train, lengths), place < np.repeat(n_fit, lengths))


def first_share(lengths: Longs, share: float) -> Longs:
    """How many entries of rows of these lengths are their first share, rounded up, [n_users]."""
    return np.ceil(np.round(lengths * share, 6)).astype(np.int64)


def _parts(train: Bools, fit: Bools) -> NDArray[np.int8]:
    return np.where(train, TRAIN, np.where(fit, VALIDATION, TEST)).astype(np.int8)


def _random(
    interactions: Histories, users: IdMap, items: IdMap, test_fraction: float, validation_fraction: float, seed: int
) -> NDArray[np.int8]:
    draw = random_draw(interactions, users, items, seed)
    return _parts(draw >= 1 - (1 - test_fraction) * (1 - validation_fraction), draw >= test_fraction)


def _held_out_users(
    interactions: Histories, users: IdMap, items: IdMap, test_fraction: float, validation_fraction: float, seed: int
) -> tuple[NDArray[np.int8], Bools]:
    """Windows of whole users, and which of their interactions are folded in: drawn, 80 % of each, rounded up.

    So a user of fewer than five interactions is read whole and has no target, as with Liang et al.
    """
    draw = _uniform(_mix(_id_hash(users, seed)))  # mixed once more than pairs are, so that the two draws differ
    of_user = _parts(draw >= 1 - (1 - test_fraction) * (1 - validation_fraction), draw >= test_fraction)
    part = of_user[interactions.user_nums]
    rows = interactions.user_nums
    order = np.lexsort((random_draw(interactions, users, items, seed), rows))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - interactions.indptr[rows]  # rows lie end to end, in both orders
    read = place < first_share(interactions.lengths, FOLD_IN)[rows]
    return part, read & (part != TRAIN)


def random_draw(interactions: Histories, users: IdMap, items: IdMap, seed: int) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for every interaction, [n], that depends on user, title and seed alone."""
    return _uniform(pair_hash(interactions.user_nums, interactions.item_nums, users, items, seed=seed))


def _uniform(mixed: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def pair_hash(
    user_nums: NDArray[np.integer], item_nums: NDArray[np.integer], users: IdMap, items: IdMap, *, seed: int
) -> NDArray[np.uint64]:
    """A hash of the external ids of each pair, [n]."""
    return _mix(_id_hash(users, seed)[user_nums] ^ _mix(_id_hash(items, seed)[item_nums]))


def _id_hash(ids: IdMap, seed: int) -> NDArray[np.uint64]:
    key = f"{seed:016d}"[-16:]
    external = ids.ids.to_numpy(zero_copy_only=False).astype(object)
    hashed: NDArray[np.uint64] = pd.util.hash_array(external, hash_key=key, categorize=False)
    return hashed


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al., 2014): spreads every bit over all."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def align_titles(titles: pa.Table, items: IdMap) -> pa.Table:
    """One row per title of ``items``, in its order; a title without metadata gets nulls and empty lists.

    The first of several rows for a title counts.
    """
    place = pc.index_in(items.ids, value_set=titles[columns.ITEM_ID].combine_chunks())
    aligned: Mapping[str, pa.ChunkedArray | pa.Array] = {
        field.name: _filled(titles[field.name].take(place), field.type) for field in columns.TITLES
    }
    return pa.table({**aligned, columns.ITEM_ID: items.ids}, schema=columns.TITLES).combine_chunks()


def _filled(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_list(kind):
        return column
    return pc.if_else(pc.is_valid(column), column, pa.scalar([], kind))
