"""How raw columns stand in SQL, and how a file was read: what the readers and the tables share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recsys.data.sources.base import RawFile

DAMAGED = "bring the file again: it is cut off or damaged"


@dataclass(frozen=True)
class Column:
    """A raw column in SQL: how to refer to it, its DuckDB type, and its name in the file."""

    sql: str
    type: str
    name: str
    bare: bool = False
    """Whether a quoted format was read line by line: a quote that still stands at its start was never closed."""

    @property
    def text(self) -> str:
        """Its value as text."""
        return self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"


Columns = Mapping[str, Column]
"""Our columns that a file has; flag columns are there under ``flag:<name>``."""
Projection = Callable[[Columns], str]
"""Our columns → the SELECT list that makes a staged row of them."""


@dataclass(frozen=True)
class Reading:
    """How a delimited file was read, to find lines in it again."""

    role: str
    file: RawFile
    delimiter: str
    header_line: bool
    positions: Mapping[str, int]


def brief(error: Exception) -> str:
    """An engine's message in one line, without the data that it quotes."""
    told = re.sub(r"Original Line:.*", "", str(error))  # what people watch belongs in no message
    return re.sub(r"\s+", " ", told).strip()[:200]


def literal(text: object) -> str:
    """Text as it stands within a SQL literal."""
    return str(text).replace("'", "''")
