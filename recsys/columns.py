"""Column names and Arrow schemas of every table that Marquee keeps. Nothing else spells them."""

from __future__ import annotations

import pyarrow as pa

USER_ID = "user_id"
ITEM_ID = "item_id"
RATING = "rating"
TIMESTAMP = "timestamp"

TITLE = "title"
YEAR = "year"
GENRES = "genres"
CAST = "cast"
DIRECTORS = "directors"
TAGS = "tags"
PLOT = "plot"
IMDB_ID = "imdb_id"
TMDB_ID = "tmdb_id"
MATURITY = "maturity"
AVAILABLE_FROM = "available_from"
AVAILABLE_UNTIL = "available_until"
REGIONS = "regions"

RANK = "rank"
SCORE = "score"
REASON = "reason"
MODEL_VERSION = "model_version"
RUN_DATE = "run_date"
SIMILAR_ITEM_ID = "similar_item_id"

_TIME = pa.timestamp("us", tz="UTC")
_WORDS = pa.list_(pa.string())

RATINGS = pa.schema([(USER_ID, pa.string()), (ITEM_ID, pa.string()), (RATING, pa.float32()), (TIMESTAMP, _TIME)])
"""Sorted by user_id, then timestamp (nulls first), then item_id. ``rating`` is null in implicit feedback."""

TITLES = pa.schema(
    [
        (ITEM_ID, pa.string()),
        (TITLE, pa.string()),
        (YEAR, pa.int16()),
        (GENRES, _WORDS),
        (CAST, _WORDS),
        (DIRECTORS, _WORDS),
        (TAGS, _WORDS),
        (PLOT, pa.string()),
        (IMDB_ID, pa.string()),
        (TMDB_ID, pa.string()),
        (MATURITY, pa.string()),
        (AVAILABLE_FROM, _TIME),
        (AVAILABLE_UNTIL, _TIME),
        (REGIONS, _WORDS),
    ]
)
"""Sorted by item_id. Absent text is null, absent lists are empty."""

RECOMMENDATIONS = pa.schema(
    [
        (USER_ID, pa.string()),
        (RANK, pa.int16()),
        (ITEM_ID, pa.string()),
        (SCORE, pa.float32()),
        (REASON, pa.string()),
        (MODEL_VERSION, pa.string()),
        (RUN_DATE, pa.date32()),
    ]
)
"""Sorted by user_id, then rank (from 1)."""

SIMILAR_TITLES = pa.schema(
    [(ITEM_ID, pa.string()), (RANK, pa.int16()), (SIMILAR_ITEM_ID, pa.string()), (SCORE, pa.float32())]
)

QUARANTINE = pa.schema(
    [
        ("table", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Rows kept out of the tables, with where they stood (``line`` is null where it is not known)."""
