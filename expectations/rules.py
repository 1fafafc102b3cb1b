"""From a suite to SQL: the row rules that DuckDB divides a table by are derived from the expectations, not restated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow as pa

from expectations.engine import key_of
from recsys.data.checks import RowRule

QUARANTINE, BLANK, DEDUPLICATE = "quarantine", "blank", "deduplicate"
"""What becomes of a row that breaks an expectation: it leaves, its value leaves, or the best of its like stays."""


def meta(says: str, otherwise: str = QUARANTINE) -> dict[str, str]:
    """What an expectation carries for us: itself in words, and the fate of what breaks it."""
    return {"says": says, "otherwise": otherwise}


def row_rules(suite: Any, schema: pa.Schema) -> tuple[RowRule, ...]:
    """The rules that a suite's expectations make for single rows, in the suite's order.

    Expectations about several rows (uniqueness) are marked ``deduplicate`` and make no rule.

    Raises:
        ValueError: there is no translation for an expectation.
    """
    rules: list[RowRule] = []
    for config in (expectation.configuration for expectation in suite.expectations):
        otherwise = config.meta["otherwise"]
        if otherwise == DEDUPLICATE:
            continue
        if config.type not in _TRANSLATIONS:
            raise ValueError(f"suite {suite.name}: no row rule for {config.type}")
        column = config.kwargs["column"]
        key = key_of(config.type, config.kwargs)
        for predicate, reason in _TRANSLATIONS[config.type](column, config.kwargs, schema.field(column).type):
            rules.append(RowRule(key, column, predicate, reason, otherwise))
    return tuple(rules)


_Faults = list[tuple[str, str]]


def _not_null(column: str, kwargs: dict[str, Any], kind: pa.DataType) -> _Faults:
    if pa.types.is_floating(kind):
        return [(f"{column} IS NULL OR isnan({column})", "is missing")]
    return [(f"{column} IS NULL", "is missing")]


def _null(column: str, kwargs: dict[str, Any], kind: pa.DataType) -> _Faults:
    present = f"{column} IS NOT NULL"
    return [(f"{present} AND NOT isnan({column})" if pa.types.is_floating(kind) else present, "is not empty")]


def _lengths(column: str, kwargs: dict[str, Any], kind: pa.DataType) -> _Faults:
    least = int(kwargs["min_value"])
    return [(f"length({column}) < {least}", "is empty" if least == 1 else f"is shorter than {least} characters")]


def _between(column: str, kwargs: dict[str, Any], kind: pa.DataType) -> _Faults:
    number = f"NOT isnan({column}) AND " if pa.types.is_floating(kind) else ""  # SQL's NaN is above everything
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    time = pa.types.is_timestamp(kind)
    faults = []
    if low is not None:
        faults.append((f"{number}{column} < {_literal(low)}", f"is {'before' if time else 'below'} {_shown(low)}"))
    if high is not None:
        faults.append((f"{number}{column} > {_literal(high)}", f"is {'after' if time else 'above'} {_shown(high)}"))
    return faults


_TRANSLATIONS: dict[str, Callable[[str, dict[str, Any], pa.DataType], _Faults]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_values_to_be_between": _between,
}


def _literal(value: datetime | float) -> str:
    return f"TIMESTAMPTZ '{value.isoformat()}'" if isinstance(value, datetime) else f"{value!r}::DOUBLE"


def _shown(value: datetime | float) -> str:
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else f"{value:g}"
