"""What an ingestion remembers of the text that it parsed: its chunks by SHA-256, and which row came of which.

Kept in the source artefact. The next ingestion of the same source takes the rows of the chunks that still stand in the
files from the earlier dataset, and parses the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns as c
from recsys.artefacts import ArtefactRef, open_parquet_writer, read_table, verified_file, write_table
from recsys.data.plaintext import BANDS, Known
from recsys.data.rows import Block, dictionary_block
from recsys.errors import ArtefactError
from recsys.histories import Bools, Ints, Longs

LEDGER_FILE, CHUNKS_FILE = "ledger.parquet", "chunks.parquet"
CHUNKS = pa.schema([("chunk", pa.int32())])
"""By row of the dataset's ratings: its chunk's place in the ledger, -1 where it is of none that is remembered."""
_MAGNITUDES = tuple(f"times_{n}" for n in range(len(BANDS) + 1))
LEDGER = pa.schema(
    [("layout", pa.string()), ("sha256", pa.binary(32)), ("bytes", pa.int64()), ("rows", pa.int64())]
    + [(name, pa.int64()) for name in _MAGNITUDES]
)


@dataclass(frozen=True)
class Earlier:
    """An earlier ingestion of the same source, to take rows from."""

    ratings: Path
    chunks: Path
    ledger: pa.Table
    unit: str | None
    """Of its numeric times."""

    @classmethod
    def open(cls, source: ArtefactRef, dataset: ArtefactRef, unit: str | None) -> Earlier | None:
        """What a source artefact remembers; None where it remembers nothing, or is damaged."""
        if not source.file(LEDGER_FILE).is_file():
            return None
        try:
            return cls(
                ratings=verified_file(dataset, "ratings.parquet"),
                chunks=verified_file(source, CHUNKS_FILE),
                ledger=read_table(verified_file(source, LEDGER_FILE)),
                unit=unit,
            )
        except ArtefactError:
            return None

    def known(self, layout: str) -> Known:
        """The chunks parsed under a layout."""
        numbers: dict[bytes, list[int]] = defaultdict(list)
        here = np.flatnonzero(pc.equal(self.ledger["layout"], layout).to_numpy())
        for number, digest in zip(here.tolist(), self.ledger["sha256"].take(pa.array(here)).to_pylist(), strict=True):
            numbers[digest].append(number)
        return Known(dict(numbers))

    def blocks(self, kept: Longs) -> Iterator[Block]:
        """The rows of some chunks; they are numbered in the order given."""
        into = np.full(len(self.ledger) + 1, -1, np.int32)  # the last place is that of rows of no chunk
        into[kept] = np.arange(len(kept), dtype=np.int32)
        rows = pq.ParquetFile(self.ratings, page_checksum_verification=True, read_dictionary=[c.USER_ID, c.ITEM_ID])
        chunks = pq.ParquetFile(self.chunks, page_checksum_verification=True)
        for group in range(rows.metadata.num_row_groups):
            numbers: Ints = into[chunks.read_row_group(group)["chunk"].to_numpy()]
            wanted: Bools = numbers >= 0
            if wanted.any():
                table = rows.read_row_group(group)
                yield dictionary_block(table if wanted.all() else table.filter(pa.array(wanted)), numbers[wanted])


def write_ledger(path: Path, ledger: pa.Table) -> None:
    """Write the chunks that are remembered."""
    write_table(path, ledger.cast(LEDGER))


def chunks_writer(path: Path) -> pq.ParquetWriter:
    """A writer for :data:`CHUNKS`, in row groups of the size of the ratings'."""
    return open_parquet_writer(path, CHUNKS)


def entries(
    layout: str, digests: list[bytes], sizes: list[int], rows: list[int], bands: list[tuple[int, ...]]
) -> pa.Table:
    """Chunks parsed under one layout, as rows of the ledger."""
    counts = np.asarray(bands, np.int64).reshape(-1, len(_MAGNITUDES))
    columns = [pa.array([layout] * len(digests), pa.string()), pa.array(digests, pa.binary(32)), sizes, rows]
    return pa.table([*columns, *(counts[:, n] for n in range(len(_MAGNITUDES)))], schema=LEDGER)


def magnitudes(ledger: pa.Table) -> NDArray[np.int64]:
    """How many numeric times are seconds, milliseconds, microseconds, nanoseconds by their size."""
    return np.asarray([pc.sum(ledger[name]).as_py() or 0 for name in _MAGNITUDES], np.int64)
