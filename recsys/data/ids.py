"""External ids (text, exactly as the source wrote them) and the dense numbers 0…n-1 that stand for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.artefacts import read_table, write_table
from recsys.errors import MarqueeError

MISSING = -1


class IdMap:
    """Ids in ascending byte order; an id's number is its position.

    Ids are unique text. Numbers are int32; :data:`MISSING` (-1) stands for an unknown id where that is asked for.
    """

    def __init__(self, ids: pa.Array) -> None:
        if ids.null_count or pc.count_distinct(ids).as_py() != len(ids):
            raise ValueError("ids must be unique and not null")
        self._ids = ids.cast(pa.string())

    @classmethod
    def of(cls, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IdMap:
        """The map over the distinct ids of a column, sorted."""
        column = (
            pa.chunked_array([pa.array(ids, pa.string())]) if not isinstance(ids, pa.Array | pa.ChunkedArray) else ids
        )
        distinct = pc.drop_null(pc.unique(column)).cast(pa.string())
        return cls(distinct.take(pc.sort_indices(distinct)))

    def __len__(self) -> int:
        return len(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self._ids.equals(other._ids)

    __hash__ = None  # type: ignore[assignment]

    @property
    def ids(self) -> pa.Array:
        """All ids, by number."""
        return self._ids

    @property
    def digest(self) -> str:
        """Equal for equal maps."""
        state = hashlib.sha256()
        for chunk in self._ids.to_pylist():
            state.update(chunk.encode() + b"\x00")
        return state.hexdigest()[:32]

    def numbers(
        self, ids: pa.Array | pa.ChunkedArray | Sequence[str], *, missing: Literal["error", "mark"] = "error"
    ) -> NDArray[np.int32]:
        """The numbers of ids, in their order.

        Raises:
            MarqueeError: an id is unknown and ``missing`` is "error".
        """
        column = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        found = pc.index_in(column.cast(pa.string()), value_set=self._ids)
        if found.null_count and missing == "error":
            unknown = pc.filter(column, pc.is_null(found))[0].as_py()
            raise MarqueeError(
                f"{found.null_count} ids are unknown, the first is {unknown!r}",
                remedy="check that both sides come from the same data",
            )
        numbers = pc.fill_null(found, MISSING)
        numbers = numbers.combine_chunks() if isinstance(numbers, pa.ChunkedArray) else numbers
        return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int32)

    def number(self, external_id: str) -> int | None:
        """The number of one id, or None."""
        position = pc.index(self._ids, external_id).as_py()
        return None if position < 0 else int(position)

    def external(self, numbers: NDArray[np.integer]) -> pa.Array:
        """The ids of numbers, in their order."""
        return self._ids.take(pa.array(numbers))

    def save(self, path: Path, column: str) -> None:
        """Write as a one-column Parquet file."""
        write_table(path, pa.table({column: self._ids}))

    @classmethod
    def load(cls, path: Path) -> IdMap:
        """Read what :meth:`save` wrote."""
        return cls(read_table(path).column(0).combine_chunks())
