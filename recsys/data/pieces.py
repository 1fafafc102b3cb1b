"""Files of ratings read apart, each by whatever process, then put together as if one process had read them all.

A piece is a folder: ``rows.parquet`` (staged rows), ``rejects.parquet`` (lines that are none) and ``piece.json`` (how
the file was read, or why it could not be). Knows nothing of who reads them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recsys.artefacts import canonical_json
from recsys.data import ratings_sql
from recsys.data.locate import reading_of
from recsys.data.reading import literal
from recsys.data.sources.base import RawTable
from recsys.data.staging import Staging, staging
from recsys.errors import SourceError

Reader = Callable[[RawTable, Path], Iterable[Path]]
"""Reads each file of a table into a piece in a scratch folder; gives their folders in the order of the files."""

_ROWS, _REJECTS, _TOLD = "rows.parquet", "rejects.parquet", "piece.json"


def read_piece(raw: RawTable, number: int, scratch: Path, *, threads: int = 1) -> Path:
    """Read one file of the ratings into a piece; gives its folder. A faulty file makes a piece that says so.

    Args:
        raw: the ratings.
        number: of the file.
        scratch: where the piece goes; what another attempt left there is replaced.
        threads: of DuckDB.
    """
    folder = scratch / f"piece-{number:05d}"
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    notes: list[str] = []
    told: dict[str, Any] = {"notes": notes}
    try:
        with staging(work, notes.append, threads=threads) as stage:
            told["rows"] = stage.load_file(ratings_sql.STAGED, raw, raw.files[number], ratings_sql.project)
            told["readings"] = [asdict(reading) for reading in stage.readings.values()]
            for query, name in ((ratings_sql.STAGED, _ROWS), ("rejects", _REJECTS)):
                stage.con.execute(f"COPY {query} TO '{literal(folder / name)}' (FORMAT parquet)")
    except SourceError as error:
        told["fault"] = {"what": error.what, "where": error.where, "remedy": error.remedy}
    shutil.rmtree(work, ignore_errors=True)
    (folder / _TOLD).write_text(canonical_json(told), encoding="utf-8")
    return folder


def read_all_here(raw: RawTable, scratch: Path) -> Iterable[Path]:
    """A :data:`Reader` that reads them one after another in this process."""
    return (read_piece(raw, number, scratch) for number in range(len(raw.files)))


def load_pieces(stage: Staging, raw: RawTable, pieces: Iterable[Path]) -> None:
    """Put pieces together in a stage: afterwards it is as if it had read the files itself.

    Raises:
        SourceError: a file is missing, empty, damaged, or lacks a column; or not one row could be read.
    """
    rows = 0
    for file, folder in zip(raw.files, pieces, strict=True):
        told = json.loads((folder / _TOLD).read_text(encoding="utf-8"))
        if "fault" in told:
            raise SourceError(told["fault"]["what"], where=told["fault"]["where"], remedy=told["fault"]["remedy"])
        for note in told["notes"]:
            stage.note(note)
        number = stage.number(file)
        for reading in told["readings"]:
            stage.readings[number] = replace(reading_of(reading), file=file)
        staged = f"SELECT * REPLACE ({number} AS file) FROM read_parquet('{literal(folder / _ROWS)}')"
        rows += stage.insert(ratings_sql.STAGED, staged)
        stage.con.execute(f"INSERT INTO rejects BY NAME SELECT * FROM read_parquet('{literal(folder / _REJECTS)}')")
    stage.expect_rows(raw, rows)
