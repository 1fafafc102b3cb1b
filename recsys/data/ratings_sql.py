"""Ratings in SQL: raw columns → staged rows → the rows of a dataset, or rejects with a reason.

Every value is judged here for whether it can be *read*; whether it makes sense is for validation to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recsys import columns as c
from recsys.data.plaintext import BANDS
from recsys.data.reading import Column, Columns
from recsys.data.staging import Staging

STAGED = "staged_ratings"
_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_799_000_000
"""Microseconds: the years 1 to 9999."""
# In lower case, as they are compared.
_NO_TIME = "('', '\\n', 'null', 'none', 'na', 'nan', 'nat', '<na>')"

UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
"""Unit → microseconds."""


@dataclass(frozen=True)
class Beside:
    """Rows of the same ratings that are not staged, as far as they help to understand those that are."""

    rated: bool
    """Whether one has a rating."""
    magnitudes: NDArray[np.int64]
    """[4] numeric times that are seconds, milliseconds, microseconds, nanoseconds by their size."""


NOTHING_BESIDE = Beside(rated=False, magnitudes=np.zeros(len(UNITS), np.int64))


def unit_of(magnitudes: NDArray[np.int64]) -> str | None:
    """The unit of numeric times: that of the middle one by size. None where there are none."""
    total = int(magnitudes.sum())
    return list(UNITS)[int(np.searchsorted(2 * np.cumsum(magnitudes), total))] if total else None


def project(columns: Columns) -> str:
    """The SELECT list of a staged rating: ids as text, rating, time as a number (``t``) or an instant.

    ``fault`` names the column that cannot be read, ``raw`` holds its text.
    """
    user, item = _id(columns[c.USER_ID]), _id(columns[c.ITEM_ID])
    rating, raw_rating = _rating(columns.get(c.RATING))
    t, instant, raw_time = _time(columns.get(c.TIMESTAMP))
    faults = [
        f"WHEN {user} IS NULL OR {user} = '' THEN '{c.USER_ID}'",
        f"WHEN {item} IS NULL OR {item} = '' THEN '{c.ITEM_ID}'",
    ]
    if columns[c.USER_ID].bare:
        faults += [f"""WHEN {id_} LIKE '"%' AND {id_} NOT LIKE '_%"' THEN 'quote'""" for id_ in (user, item)]
    if c.RATING in columns:
        empty = f"{raw_rating} IS NULL OR trim({raw_rating}) IN ('', '\\N')"
        faults.append(f"WHEN {empty} THEN 'no_rating'")
        faults.append(f"WHEN {rating} IS NULL THEN '{c.RATING}'")
    if c.TIMESTAMP in columns:
        faults.append(f"WHEN {raw_time} IS NOT NULL AND {t} IS NULL AND {instant} IS NULL THEN '{c.TIMESTAMP}'")
    fault = f"CASE {' '.join(faults)} END"
    return f"""{user} AS user_id, {item} AS item_id, {rating} AS rating, {t} AS t,
        {instant} AS instant, {fault} AS fault,
        CASE {fault} WHEN '{c.RATING}' THEN {raw_rating} WHEN '{c.TIMESTAMP}' THEN {raw_time} END AS raw"""


def _id(column: Column) -> str:
    """An id as text. Whole floats (pandas makes them of integers with gaps) are written as those integers."""
    if column.type in ("DOUBLE", "FLOAT"):
        whole = f"{column.sql} = floor({column.sql}) AND abs({column.sql}) < 9007199254740992"
        return f"CASE WHEN {whole} THEN CAST(CAST({column.sql} AS BIGINT) AS VARCHAR) END"
    return column.text


def _rating(column: Column | None) -> tuple[str, str]:
    if column is None:
        return "CAST(NULL AS FLOAT)", "CAST(NULL AS VARCHAR)"
    return f"TRY_CAST({column.sql} AS FLOAT)", column.text


def _time(column: Column | None) -> tuple[str, str, str]:
    """A time as a number, as an instant, and as text (NULL where it says that there is none)."""
    if column is None:
        return "CAST(NULL AS DOUBLE)", "CAST(NULL AS TIMESTAMPTZ)", "CAST(NULL AS VARCHAR)"
    if column.type.startswith(("TIMESTAMP", "DATE")):
        return "CAST(NULL AS DOUBLE)", f"TRY_CAST({column.sql} AS TIMESTAMPTZ)", f"CAST({column.sql} AS VARCHAR)"
    text = f"CASE WHEN lower(trim({column.text})) NOT IN {_NO_TIME} THEN {column.text} END"
    t = f"TRY_CAST({text} AS DOUBLE)"
    finite = f"CASE WHEN isfinite({t}) THEN {t} END"
    return finite, f"CASE WHEN {t} IS NULL THEN TRY_CAST({text} AS TIMESTAMPTZ) END", text


@dataclass(frozen=True)
class Found:
    """What the staged ratings are like."""

    rows: int
    implicit: bool
    ordered: bool
    """Whether (nearly) all rows have a time, and times differ."""
    unit: str | None
    """Of numeric times."""


def settle(stage: Staging, beside: Beside = NOTHING_BESIDE) -> tuple[str, Found]:
    """Decide the unit of times and what an empty rating means, move what cannot be read to the rejects.

    Returns:
        A query for the rows (user_id, item_id, rating, us: microseconds since 1970), unordered, and what they are like.
    """
    con = stage.con
    if not beside.rated and stage.one(f"SELECT count(*) FROM {STAGED} WHERE rating IS NOT NULL")[0] == 0:
        # Not one rating is given: the source knows only that something was watched.
        con.execute(f"UPDATE {STAGED} SET fault = NULL WHERE fault = 'no_rating'")
    unit, micros = _unit(stage, beside)
    outside = f"({micros} < {_EARLIEST} OR {micros} > {_LATEST})"
    con.execute(f"""
        CREATE TABLE unreadable AS
        SELECT user_id, item_id, file, coalesce(fault, '{c.TIMESTAMP}') AS fault,
               coalesce(raw, CASE WHEN fault IS NULL THEN CAST(t AS VARCHAR) END) AS raw
        FROM {STAGED} WHERE fault IS NOT NULL OR {outside}""")
    rows = f"""
        SELECT user_id, item_id, rating, CAST(round({micros}) AS BIGINT) AS us
        FROM {STAGED} WHERE fault IS NULL AND NOT coalesce({outside}, false)"""
    return rows, _describe(stage, rows, unit)


def _unit(stage: Staging, beside: Beside) -> tuple[str | None, str]:
    """The unit of numeric times by their magnitude, and the SQL of a time in microseconds."""
    counts = ", ".join(
        f"count(*) FILTER (abs(t) >= {least!r} AND abs(t) < {most!r}::DOUBLE)"
        for least, most in pairwise((0.0, *BANDS, float("inf")))
    ).replace("inf::DOUBLE", "'inf'::DOUBLE")
    here = stage.one(f"SELECT {counts} FROM {STAGED} WHERE fault IS NULL")
    unit = unit_of(np.asarray(here, np.int64) + beside.magnitudes)
    given = "CAST(epoch_us(instant) AS DOUBLE)"
    return unit, given if unit is None else f"coalesce(t * {UNITS[unit]!r}::DOUBLE, {given})"


def _describe(stage: Staging, rows: str, unit: str | None) -> Found:
    count, timed, first, last, rated = stage.one(f"""
        SELECT count(*), count(us), min(us), max(us), count(rating) FROM ({rows})""")
    return Found(
        rows=count,
        implicit=rated == 0,
        ordered=count > 0 and timed >= 0.9 * count and first < last,
        unit=unit,
    )
