"""Artefacts: immutable directories named by what made them.

``<home>/artefacts/<kind>/<digest>/`` holds files and a ``manifest.json``. The digest is of
(kind, parents, configuration, schema version), so a step whose artefact exists need not run again.
A directory is written beside its place, fsynced, and renamed: one without a manifest does not exist.
Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ArtefactError

MANIFEST = "manifest.json"

SCHEMA_VERSIONS: dict[str, int] = {
    "source": 1,
    "dataset": 1,
    "validated": 2,
    "split": 2,
    "user_autoencoder": 3,
    "content_cnn": 1,
    "baselines": 4,
    "rival": 3,
    "ncf": 4,
    "evaluation": 3,
    "ring": 1,
    "model": 3,
    "recommendations": 3,
}
"""Raise a kind's number when the code that makes it would make something else."""


class ArtefactRef(BaseModel):
    """A reference to an artefact: all that tasks hand each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    path: str
    digest: str

    def file(self, name: str) -> Path:
        """The path of one of its files (not verified: see :func:`verified_file`)."""
        return Path(self.path) / name


class FileEntry(BaseModel):
    """One file of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """What an artefact is made of, and from what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    digest: str
    schema_version: int
    rows: dict[str, int]
    files: dict[str, FileEntry]
    parents: dict[str, str]
    configuration: dict[str, Any]
    seed: int | None
    code_version: str
    created_at: datetime
    summary: dict[str, Any]


class Draft:
    """An artefact being written: a directory to fill, and what the manifest shall say of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, int] = {}
        self.summary: dict[str, Any] = {}

    def file(self, name: str) -> Path:
        """The path for a new file; its folder is made."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest_of(kind: str, parents: Mapping[str, str], configuration: Mapping[str, Any]) -> str:
    """The digest (32 hex digits) of an artefact of this kind made from these parents so configured."""
    identity = {
        "kind": kind,
        "parents": dict(parents),
        "configuration": dict(configuration),
        "schema": SCHEMA_VERSIONS[kind],
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_version() -> str:
    """Marquee's version, with the commit where it runs from a checkout."""
    try:
        release = version("marquee")
    except PackageNotFoundError:
        release = "unknown"
    try:
        commit = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=5, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+{commit}"


class Mirror(Protocol):
    """Where a store's artefacts are kept too, beyond this machine (``recsys/remote_artefacts.py``)."""

    def keep(self, ref: ArtefactRef) -> None:
        """Upload one of this machine, unless it is there."""
        ...

    def bring(self, ref: ArtefactRef) -> bool:
        """Download and verify one; False where there is none."""
        ...


class ArtefactStore:
    """The artefacts under one home directory, and on its mirror where it has one."""

    def __init__(self, home: Path, mirror: Mirror | None = None) -> None:
        self.root = home / "artefacts"
        self._mirror = mirror

    def find(self, kind: str, parents: Mapping[str, str], configuration: Mapping[str, Any]) -> ArtefactRef | None:
        """The artefact already made of these, or None. Its files' sizes are checked against the manifest.

        With a mirror: one that is only here is uploaded, one that is only there is brought.

        Raises:
            ArtefactError: the mirror's is damaged.
            StorageError: the mirror cannot be reached.
        """
        ref = self.ref(kind, digest_of(kind, parents, configuration))
        if (Path(ref.path) / MANIFEST).is_file() and self._whole(ref):
            if self._mirror is not None:
                self._mirror.keep(ref)
            return ref
        return ref if self._mirror is not None and self._mirror.bring(ref) else None

    def ref(self, kind: str, digest: str) -> ArtefactRef:
        """The reference to an artefact of this kind and digest, whether it exists or not."""
        return ArtefactRef(kind=kind, path=str(self.root / kind / digest), digest=digest)

    def _whole(self, ref: ArtefactRef) -> bool:
        files = read_manifest(ref).files
        return all(ref.file(n).is_file() and ref.file(n).stat().st_size == e.bytes for n, e in files.items())

    def latest(self, kind: str) -> ArtefactRef | None:
        """The newest artefact of a kind by creation time, or None."""
        manifests = [
            read_manifest(self.ref(kind, folder.name))
            for folder in sorted((self.root / kind).glob("*"))
            if (folder / MANIFEST).is_file()
        ]
        if not manifests:
            return None
        return self.ref(kind, max(manifests, key=lambda manifest: manifest.created_at).digest)

    @contextmanager
    def create(
        self,
        kind: str,
        parents: Mapping[str, str],
        configuration: Mapping[str, Any],
        *,
        seed: int | None = None,
        clock: datetime | None = None,
    ) -> Iterator[tuple[Draft, ArtefactRef]]:
        """Write a new artefact: fill the draft's directory; on leaving the block it appears whole, or not at all.

        Yields the draft, and the reference that is valid once the block has been left. A mirror has it then too; where
        that cannot be reached the artefact stays here, and the next :meth:`find` uploads it.

        Raises:
            StorageError: the mirror cannot be reached.
        """
        ref = self.ref(kind, digest_of(kind, parents, configuration))
        target = Path(ref.path)
        draft = Draft(target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"))
        draft.path.mkdir(parents=True)
        try:
            yield draft, ref
            manifest = Manifest(
                kind=kind,
                digest=ref.digest,
                schema_version=SCHEMA_VERSIONS[kind],
                rows=draft.rows,
                files=_entries(draft.path),
                parents=dict(parents),
                configuration=json.loads(canonical_json(configuration)),
                seed=seed,
                code_version=code_version(),
                created_at=clock or datetime.now(UTC),
                summary=json.loads(canonical_json(draft.summary)),
            )
            write_text(draft.path / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
            settle(draft.path, target)
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
        if self._mirror is not None:
            self._mirror.keep(ref)


def _entries(folder: Path) -> dict[str, FileEntry]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
        for path in files
    }


def settle(draft: Path, target: Path) -> None:
    """Put a directory that is whole in its place, durably; one that stands there already is replaced."""
    for path in [*draft.rglob("*"), draft]:
        fsync(path)
    if target.exists():  # an equal artefact landed meanwhile, or a damaged one stands there: the new one replaces it
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
        target.rename(old)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(target)
    fsync(target.parent)


def fsync(path: Path) -> None:
    """Make a file's or a directory's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: str | Path, target: str | Path) -> None:
    """Put a file of one artefact into another, without its bytes where the file system can; for ``copytree`` too."""
    try:
        Path(target).unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        fsync(draft)
        draft.replace(path)
        fsync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def read_manifest(ref: ArtefactRef) -> Manifest:
    """Read an artefact's manifest.

    Raises:
        ArtefactError: there is none, or it cannot be read.
    """
    path = ref.file(MANIFEST)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError(
            f"the {ref.kind} artefact {ref.digest} does not exist",
            where=str(path),
            remedy="run the step that makes it",
        ) from None
    except ValidationError as error:
        raise ArtefactError(
            f"the manifest is damaged ({error.error_count()} faults)",
            where=str(path),
            remedy="remove that directory and run again: it is made anew",
        ) from None


def verified_file(ref: ArtefactRef, name: str) -> Path:
    """The path of an artefact's file, after its SHA-256 has been checked against the manifest.

    Raises:
        ArtefactError: the file is missing or its bytes are not those that were written.
    """
    entry = read_manifest(ref).files.get(name)
    path = ref.file(name)
    if entry is None or not path.is_file():
        raise ArtefactError(f"the file is missing from {ref.kind} {ref.digest}", where=str(path), remedy=_REMAKE)
    if file_sha256(path) != entry.sha256:
        raise ArtefactError(
            "the bytes are not those that were written (sha256 differs)", where=str(path), remedy=_REMAKE
        )
    return path


def verify(ref: ArtefactRef) -> Manifest:
    """Verify every file of an artefact, and give its manifest."""
    manifest = read_manifest(ref)
    for name in manifest.files:
        verified_file(ref, name)
    return manifest


_REMAKE = "remove that artefact's directory and run again: it is made anew"


def open_parquet_writer(path: Path, schema: pa.Schema, *, sorted_by: tuple[str, ...] = ()) -> pq.ParquetWriter:
    """A Parquet writer as every table of ours is written: zstd, page checksums, deterministic bytes."""
    order = [pq.SortingColumn(schema.get_field_index(name)) for name in sorted_by]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        write_page_checksum=True,
        sorting_columns=order or None,
        store_schema=True,
    )


def write_table(path: Path, table: pa.Table, *, sorted_by: tuple[str, ...] = (), row_group_size: int = 262_144) -> None:
    """Write a small or middling table (see :func:`open_parquet_writer` for streams)."""
    with open_parquet_writer(path, table.schema, sorted_by=sorted_by) as writer:
        writer.write_table(table, row_group_size=row_group_size)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file with its page checksums verified.

    Raises:
        ArtefactError: the file is truncated or a byte of it has changed.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ArtefactError(f"cannot be read as Parquet ({error})", where=str(path), remedy=_REMAKE) from None
