"""Runs a suite over a table with Great Expectations, and tells a table at fault from a check that broke down.

Great Expectations passes column expectations on empty tables, takes NaN for missing, and reports an exception as a
failed expectation. So suites say not-null wherever a range is said, tables' row counts are expectations of their own
(over a profile of one row), and an exception raises here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa

from recsys.errors import MarqueeError

_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What one expectation found."""

    key: str
    """The expectation's name: its type and columns."""
    says: str
    """In words: "rating is between 1 and 5"."""
    success: bool
    checked: int
    """Rows (for expectations about a whole table: 1)."""
    unexpected: int
    example: object | None = None
    """The first unexpected value, where examples were asked for."""


def load() -> Any:
    """The great_expectations module: imported late (seconds), its telemetry off."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations

    return great_expectations


def key_of(kind: str, kwargs: Mapping[str, Any]) -> str:
    """The name of an expectation within its suite: type and columns."""
    about = kwargs.get("column") or ", ".join(kwargs.get("column_list", ()))
    return f"{kind}({about})"


def columns_of(suite: Any) -> list[str]:
    """The columns that a suite's expectations are about, in order."""
    kwargs = [expectation.configuration.kwargs for expectation in suite.expectations]
    return list(
        dict.fromkeys(c for k in kwargs for c in ([k["column"]] if "column" in k else k.get("column_list", ())))
    )


def run_suite(suite: Any, table: pa.Table, *, with_examples: bool = False) -> list[Outcome]:
    """Run a suite over a table held in memory, and give its outcomes in the suite's order.

    Raises:
        MarqueeError: an expectation could not be evaluated (which says nothing about the data).
    """
    frame = table.select(columns_of(suite) or table.column_names).to_pandas()
    form = {"result_format": "BASIC", "partial_unexpected_count": 1 if with_examples else 0}
    with _lock:  # one context per process, and Great Expectations keeps it in a global
        batch = _whole_frames().get_batch(batch_parameters={"dataframe": frame})
        results = batch.validate(suite, result_format=form).results
    outcomes = {outcome.key: outcome for outcome in (_outcome(result, suite.name) for result in results)}
    return [outcomes[key_of(e.configuration.type, e.configuration.kwargs)] for e in suite.expectations]


@cache
def _whole_frames() -> Any:
    types = load().data_context.types.base
    in_memory = types.InMemoryStoreBackendDefaults(init_temp_docs_sites=False)  # else it leaves a folder in /tmp
    config = types.DataContextConfig(store_backend_defaults=in_memory, analytics_enabled=False)
    context = load().get_context(mode="ephemeral", project_config=config)
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("whole")


def _outcome(result: Any, suite: str) -> Outcome:
    config = result.expectation_config
    key = key_of(config.type, config.kwargs)
    problem = _exception(result.exception_info)
    if problem is not None:
        raise MarqueeError(
            f"the expectation {key} could not be evaluated ({problem})",
            where=f"suite {suite}",
            remedy="this says nothing about the data: it is a fault in the suite or in Great Expectations; report it",
        )
    found = result.result
    whole = "element_count" not in found
    examples = found.get("partial_unexpected_list") or [None]
    return Outcome(
        key=key,
        says=config.meta["says"],
        success=bool(result.success),
        checked=1 if whole else found["element_count"],
        unexpected=int(not result.success) if whole else found["unexpected_count"],
        example=examples[0],
    )


def _exception(info: Mapping[str, Any]) -> str | None:
    """The message of an exception that was swallowed, whichever of its two shapes the record has."""
    for entry in [info] if "raised_exception" in info else list(info.values()):
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return None


def merge(chunks: Iterable[Outcome]) -> dict[str, Outcome]:
    """Outcomes of the same expectations over parts of one table, added up."""
    merged: dict[str, Outcome] = {}
    for outcome in chunks:
        before = merged.get(outcome.key)
        merged[outcome.key] = outcome if before is None else replace(
            before,
            success=before.success and outcome.success,
            checked=before.checked + outcome.checked,
            unexpected=before.unexpected + outcome.unexpected,
            example=before.example if before.example is not None else outcome.example,
        )  # fmt: skip
    return merged
