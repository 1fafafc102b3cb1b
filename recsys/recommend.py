"""Tonight's lists: users scored in blocks, exact top-n, written as a stream. Never a users × titles matrix.

Knows nothing of which model scores, nor of where the lists are published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys import columns
from recsys.artefacts import open_parquet_writer
from recsys.cooccurrence import counts
from recsys.data.ids import IdMap
from recsys.errors import PublicationError
from recsys.fallback import Fallback
from recsys.histories import Bools, Floats, Histories, Ints
from recsys.parallel import on_all_threads
from recsys.reasons import Reasons
from recsys.retrieval import users_per_block
from recsys.scoring import Scorer
from recsys.similar import similar_blocks
from recsys.topk import NO_ITEM, mask_seen, top_k

ROWS_PER_PART = 4_000_000
ROWS_PER_GROUP = 131_072
"""Rows of a Parquet row group: the blocks of users that they come in are smaller where titles are many."""


@dataclass(frozen=True)
class Lists:
    """The lists of a block of users."""

    first_user: int
    items: Ints
    """[n_users, n] item numbers, best first, NO_ITEM at the end where the pool is smaller."""
    scores: Floats
    """[n_users, n]"""
    fallback: Bools
    """[n_users] whether the list is the fallback's."""
    histories: Histories


@dataclass(frozen=True)
class ListCounts:
    """What was written."""

    users: int
    rows: int
    fallback_users: int
    short_lists: int
    titles_shown: int


def recommend(
    scorer: Scorer,
    histories: Histories,
    fallback: Fallback,
    *,
    n: int,
    listable: Bools,
    min_history: int = 1,
    new: Bools | None = None,
    new_share: float = 0.0,
    block_size: int = 512,
    threads: int | None = None,
) -> Iterator[Lists]:
    """The n best unseen, listable titles of every user, in blocks of users.

    Args:
        scorer: the model that serves.
        histories: of all users, over the scorer's titles.
        fallback: for users with fewer than ``min_history`` positive interactions: who has some, gets the model's
            scores leaning on popularity.
        n: length of the lists.
        listable: [n_items] titles that may be shown.
        min_history: least positive interactions for the model to be asked alone.
        new: [n_items] titles that nobody has watched yet; None: there are none, or the model knows nothing of them.
        new_share: least share of a list's places (rounded down) that new titles have, see :func:`with_new_titles`.
        block_size: users at a time, fewer where titles are many: memory does not grow with either.
        threads: blocks at a time (None: as many threads as a product of matrices would use).

    Raises:
        PublicationError: the model gave a score that is not finite.
    """

    def lists_of(numbered: tuple[int, Histories]) -> Lists:
        first, block = numbered
        scores, few = served_scores(scorer, block, fallback, min_history)
        mask_seen(scores, block)
        scores[:, ~listable] = -np.inf
        items, values = top_k(scores, n)
        if new is not None and int(n * new_share):
            items, values = with_new_titles(scores, items, values, new & listable, int(n * new_share))
        return Lists(first, items, values, few, block)

    return on_all_threads(lists_of, histories.blocks(users_per_block(histories.n_items, block_size)), threads)


def served_scores(scorer: Scorer, histories: Histories, fallback: Fallback, min_history: int) -> tuple[Floats, Bools]:
    """The scores that lists are made from, [n_users, n_items], and for whom they are not the model's alone, [n_users].

    Raises:
        PublicationError: the model gave a score that is not finite.
    """
    scores = scorer.scores(histories).astype(np.float32, copy=True)
    if not np.isfinite(scores).all():
        raise PublicationError(
            "the model gave scores that are not finite",
            remedy="nothing was published; see the model's metrics in MLflow",
        )
    liked = histories.positives().lengths
    few = liked < min_history
    if few.any():
        rows = histories.select(np.flatnonzero(few))
        some = (liked[few] > 0)[:, None]
        scores[few] = np.where(some, fallback.leaning(scores[few], rows), fallback.popular)
    return scores, few


def with_new_titles(scores: Floats, items: Ints, values: Floats, new: Bools, places: int) -> tuple[Ints, Floats]:
    """Give the last places of each list to the best new titles, where it has fewer of them.

    What nobody has watched can only be found out by showing it: by merit alone a ranker that learned from what was
    watched never would.

    Args:
        scores: [n_users, n_items]; -inf marks titles that may not be listed.
        items: [n_users, n] the lists, best first, NO_ITEM at the end.
        values: [n_users, n] their scores.
        new: [n_items]
        places: least new titles of a list, if there are so many.

    Returns:
        lists and scores of the same shapes, best first.
    """
    candidates = np.flatnonzero(new)
    held = new[items] & (items != NO_ITEM)
    best, best_values = top_k(scores[:, candidates], places)  # those that are listed already come first
    rows, order = np.nonzero((best != NO_ITEM) & (np.arange(places) >= held.sum(axis=1, keepdims=True)))
    old_from_end = np.cumsum((~held)[:, ::-1], axis=1)[:, ::-1]  # 1 is the last title that is not new
    wanted = order - held.sum(axis=1)[rows] + 1
    slots = np.argmax((old_from_end[rows] == wanted[:, None]) & ~held[rows], axis=1)
    items, values = items.copy(), values.copy()
    items[rows, slots], values[rows, slots] = candidates[best[rows, order]], best_values[rows, order]
    by_score = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(items, by_score, axis=1), np.take_along_axis(values, by_score, axis=1)


def unwatched(histories: Histories) -> Bools:
    """[n_items] titles that are in nobody's history."""
    return np.asarray(counts(histories) == 0)


def write_recommendations(
    folder: Path,
    lists: Iterator[Lists],
    reasons: Reasons,
    users: IdMap,
    items: IdMap,
    *,
    model_version: str,
    run_date: date,
    shown: Bools | None = None,
    progress: Callable[[int], None] = lambda users_done: None,
) -> ListCounts:
    """Write lists as ``part-*.parquet`` in the schema ``columns.RECOMMENDATIONS``.

    Args:
        folder: made if need be.
        lists: of users, in their order.
        reasons: why a title is in a list.
        users: ids by number.
        items: ids by number.
        model_version: a column.
        run_date: a column.
        shown: [n_items] is marked where a title is in a list.
        progress: hears how many users are done.
    """
    counts = {"users": 0, "rows": 0, "fallback_users": 0, "short_lists": 0}
    shown = np.zeros(len(items), np.bool_) if shown is None else shown

    def tables() -> Iterator[pa.Table]:
        for block in lists:
            filled = block.items != NO_ITEM
            shown[block.items[filled]] = True
            counts["users"] += len(block.items)
            counts["rows"] += int(filled.sum())
            counts["fallback_users"] += int(block.fallback.sum())
            counts["short_lists"] += int((~filled.all(axis=1)).sum())
            yield _table(block, reasons, users, items, model_version, run_date)
            progress(counts["users"])

    write_parts(folder, tables(), columns.RECOMMENDATIONS, (columns.USER_ID, columns.RANK))
    return ListCounts(**counts, titles_shown=int(shown.sum()))


def _table(lists: Lists, reasons: Reasons, users: IdMap, items: IdMap, model_version: str, run_date: date) -> pa.Table:
    rows, places = np.nonzero(lists.items != NO_ITEM)
    return pa.table(
        {
            columns.USER_ID: users.external(lists.first_user + rows),
            columns.RANK: pa.array((places + 1).astype(np.int16)),
            columns.ITEM_ID: items.external(lists.items[rows, places]),
            columns.SCORE: pa.array(lists.scores[rows, places]),
            columns.REASON: reasons.explain(lists.items, lists.histories, lists.fallback),
            columns.MODEL_VERSION: pa.repeat(pa.scalar(model_version), len(rows)),
            columns.RUN_DATE: pa.repeat(pa.scalar(run_date, pa.date32()), len(rows)),
        },
        schema=columns.RECOMMENDATIONS,
    )


def write_similar(folder: Path, space: Floats, items: IdMap, listable: Bools, *, n: int) -> int:
    """Write the similar titles of every title as ``part-*.parquet``; gives the number of rows.

    Titles without anything in common (similarity 0 or less) are not listed.
    """
    rows_written = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal rows_written
        for first, similar, scores in similar_blocks(space, listable, n):
            rows, places = np.nonzero((similar != NO_ITEM) & (scores > 0))
            rows_written += len(rows)
            yield pa.table(
                {
                    columns.ITEM_ID: items.external(first + rows),
                    columns.RANK: pa.array((places + 1).astype(np.int16)),
                    columns.SIMILAR_ITEM_ID: items.external(similar[rows, places]),
                    columns.SCORE: pa.array(scores[rows, places]),
                },
                schema=columns.SIMILAR_TITLES,
            )

    write_parts(folder, tables(), columns.SIMILAR_TITLES, (columns.ITEM_ID, columns.RANK))
    return rows_written


def write_parts(
    folder: Path, tables: Iterator[pa.Table], schema: pa.Schema, sorted_by: tuple[str, ...], rows: int = ROWS_PER_PART
) -> None:
    """Write a stream of tables as part-00000.parquet, …, each of about ``rows`` rows; at least one."""
    folder.mkdir(parents=True, exist_ok=True)
    part, written = 0, 0
    writer = open_parquet_writer(folder / f"part-{part:05d}.parquet", schema, sorted_by=sorted_by)
    try:
        for table in _gathered(tables, min(rows, ROWS_PER_GROUP)):
            if written >= rows:
                writer.close()
                part, written = part + 1, 0
                writer = open_parquet_writer(folder / f"part-{part:05d}.parquet", schema, sorted_by=sorted_by)
            writer.write_table(table)
            written += table.num_rows
    finally:
        writer.close()


def _gathered(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of at least so many, the last one excepted: a table becomes a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
