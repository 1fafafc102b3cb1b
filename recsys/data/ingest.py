"""Ingestion: a configured source becomes a dataset artefact, along one path whatever the source.

Two artefacts come of it. The **dataset** is named by its content, so that the same ratings from another source are the
same dataset. The **source** is named by the configuration and the files' SHA-256s; it points at the dataset, and is
how an unchanged source is not read again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil

from recsys.artefacts import MANIFEST, ArtefactRef, ArtefactStore, Mirror, file_sha256, read_manifest
from recsys.config import SourceConfig
from recsys.data.dataset_files import FILES, Made, Progress, make_files
from recsys.data.ledger import CHUNKS_FILE, LEDGER_FILE, Earlier
from recsys.data.pieces import Reader
from recsys.data.sources import locate_source
from recsys.data.sources.base import Located, Note, Place, silent
from recsys.errors import MarqueeError, SourceError

READER_VERSION = 1
"""Raise when the same files would be read into something else."""
_ROOM, _LEAST_ROOM = 4, 100 << 20
"""Bytes of disk per byte of source that an ingestion takes while it runs; and the least that is asked for."""


@dataclass(frozen=True)
class Ingested:
    """What an ingestion gave."""

    dataset: ArtefactRef
    source: ArtefactRef
    reused: bool
    rows: int
    rejected: int
    kept_rows: int = 0
    """Ratings taken from an earlier dataset of the same source."""
    kept_bytes: int = 0
    """Bytes of the ratings' text that were not parsed again, and those that were."""
    parsed_bytes: int = 0


def ingest(
    config: SourceConfig,
    home: Path,
    *,
    note: Note = silent,
    progress: Progress | None = None,
    threads: int | None = None,
    clock: datetime | None = None,
    mirror: Mirror | None = None,
    reader: Reader | None = None,
) -> Ingested:
    """Bring a source's ratings and titles into a dataset artefact, or find the one that it gave before.

    Args:
        config: the source.
        home: everything that is written lies under it.
        note: hears what is being done.
        progress: hears of ratings written.
        threads: of DuckDB (None: as many as the machine has, four at most).
        clock: the artefacts' creation time (None: now).
        mirror: where artefacts are kept too.
        reader: who reads several files of ratings beside each other (None: this process reads them).

    Raises:
        ConfigError: the configuration names no source.
        SourceError: a file is missing, empty, damaged or lacks a column; where and how to mend it is said.
        DownloadError: the data cannot be brought just now.
        MarqueeError: the disk is full.
    """
    store = ArtefactStore(home, mirror)
    located = locate_source(config, Place(home, note))
    identity = _identity(config, located)
    known = _known(store, identity)
    if known is not None:
        return known
    with scratch_folder(home) as scratch, _explaining(home, located):
        made = make_files(
            located.tables(scratch),
            scratch,
            note=note,
            progress=progress,
            threads=threads,
            earlier=_earlier(store, identity),
            reader=reader,
        )
        if made.kept_rows:
            note(f"{made.kept_rows:,} ratings taken from the last dataset; {made.parsed_bytes:,} bytes of text parsed")
        summary = _summary(located, identity, made)
        dataset = _keep_dataset(store, scratch, made.rows, summary, clock)
        source = _keep_source(store, scratch if made.remembered else None, identity, dataset, made.rows, summary, clock)
    return Ingested(
        dataset, source, False, made.rows["ratings"], made.rows["rejects"],
        made.kept_rows, made.kept_bytes, made.parsed_bytes,
    )  # fmt: skip


def ingested(config: SourceConfig, home: Path) -> Ingested | None:
    """What an earlier ingestion of the same source gave, or None. Makes nothing, and brings nothing the first time.

    Raises:
        ConfigError: the configuration names no source.
        SourceError: a file is missing.
    """
    store = ArtefactStore(home)
    if not (store.root / "source").is_dir():
        return None
    return _known(store, _identity(config, locate_source(config, Place(home, silent))))


def _identity(config: SourceConfig, located: Located) -> dict[str, Any]:
    missing = [path for path in located.files if not path.is_file()]
    if missing:
        raise SourceError("there is no such file", where=str(missing[0]), remedy="mend the path under [source]")
    return {
        "source": config.model_dump(exclude_defaults=True) | {"kind": config.kind},
        "files": [[path.name, file_sha256(path)] for path in located.files],
        "version": [READER_VERSION, located.version],
    }


def _known(store: ArtefactStore, identity: dict[str, Any]) -> Ingested | None:
    source = store.find("source", {}, identity)
    if source is None:
        return None
    dataset = store.find("dataset", {}, read_manifest(source).summary["dataset_configuration"])
    if dataset is None:
        return None
    rows = read_manifest(dataset).rows
    return Ingested(dataset, source, True, rows["ratings"], rows["rejects"])


def _earlier(store: ArtefactStore, identity: dict[str, Any]) -> Earlier | None:
    """The last ingestion of the same source, to take rows from; None where there is none whole."""
    manifests = [
        read_manifest(store.ref("source", folder.name))
        for folder in (store.root / "source").glob("*")
        if (folder / MANIFEST).is_file()
    ]
    same = [
        m
        for m in manifests
        if all(m.configuration.get(name) == identity[name] for name in ("source", "version")) and LEDGER_FILE in m.files
    ]
    if not same:
        return None
    last = max(same, key=lambda manifest: manifest.created_at)
    dataset = store.find("dataset", {}, last.summary["dataset_configuration"])
    if dataset is None:
        return None
    return Earlier.open(store.ref("source", last.digest), dataset, last.summary["timestamp_unit"])


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder under home for what is needed only now. Those that dead processes left are removed."""
    parent = home / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("ingest-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"ingest-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explaining(home: Path, located: Located) -> Iterator[None]:
    """Say what a full disk or a failing reader means, in place of their own words."""
    try:
        yield
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        needed = max(_LEAST_ROOM, _ROOM * sum(path.stat().st_size for path in located.files))
        raise MarqueeError(
            f"the data could not be brought in ({' '.join(str(error).split())[:300]})",
            where=str(home),
            remedy=(
                f"about {needed >> 20:,} MB are needed there and {shutil.disk_usage(home).free >> 20:,} MB are free:"
                " make room, or set home to another disk"
            ),
        ) from error


def _summary(located: Located, identity: dict[str, Any], made: Made) -> dict[str, Any]:
    low, high = located.scale if located.scale and not made.summary["implicit"] else (None, None)
    origin = located.provenance
    return made.summary | {
        "licence": origin.licence,
        "citation": origin.citation,
        "provenance": {"name": origin.name, "url": origin.url, "checksums": dict(origin.checksums)},
        "files": [
            {"path": str(path.resolve()), "sha256": sha256, "bytes": path.stat().st_size}
            for path, (_, sha256) in zip(located.files, identity["files"], strict=True)
        ],
        "rating_min": low,
        "rating_max": high,
    }


def _keep_dataset(
    store: ArtefactStore, scratch: Path, rows: dict[str, int], summary: dict[str, Any], clock: datetime | None
) -> ArtefactRef:
    configuration = {name.removesuffix(".parquet"): file_sha256(scratch / name) for name in FILES}
    known = store.find("dataset", {}, configuration)
    if known is not None:
        return known
    with store.create("dataset", {}, configuration, clock=clock) as (draft, ref):
        for name in FILES:
            (scratch / name).rename(draft.file(name))
        draft.rows.update(rows)
        draft.summary.update(summary)
    return ref


def _keep_source(
    store: ArtefactStore,
    remembered: Path | None,
    identity: dict[str, Any],
    dataset: ArtefactRef,
    rows: dict[str, int],
    summary: dict[str, Any],
    clock: datetime | None,
) -> ArtefactRef:
    with store.create("source", {}, identity, clock=clock) as (draft, ref):
        if remembered is not None:
            for name in (LEDGER_FILE, CHUNKS_FILE):
                (remembered / name).rename(draft.file(name))
        draft.rows.update(rows)
        draft.summary.update(summary)
        draft.summary["dataset"] = dataset.digest
        draft.summary["dataset_configuration"] = read_manifest(dataset).configuration
    return ref
