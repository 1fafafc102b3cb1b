"""Artefacts on object storage: ``artefacts/<kind>/<digest>/files-<hash>/…``, then ``manifest.json``.

The manifest goes last: what has none does not exist. The files' folder is named by the hash of all their SHA-256s, so
that an upload that was killed goes on where it stood (an object in that folder is whole, and of these very bytes), and
so that two machines that made one artefact with other bytes never mix theirs: the last manifest names its own folder.
What an artefact took over from its parents (the second stage holds its towers) does not travel again.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from recsys.artefacts import (
    MANIFEST,
    ArtefactRef,
    Manifest,
    canonical_json,
    file_sha256,
    link,
    read_manifest,
    settle,
)
from recsys.config import StorageConfig
from recsys.errors import ArtefactError
from recsys.storage import Remote


class RemoteArtefacts:
    """Keeps a store's artefacts on object storage, and brings them from there."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    @classmethod
    def of(cls, config: StorageConfig) -> RemoteArtefacts | None:
        """The configured ones, or None."""
        remote = Remote.of(config)
        return None if remote is None else cls(remote)

    def keep(self, ref: ArtefactRef) -> None:
        """Upload an artefact of this machine, unless it is there. Files that have arrived already are left alone.

        Raises:
            ArtefactError: a file here is not the one that was written.
            StorageError: the storage cannot be reached; what has arrived stays, and counts the next time.
        """
        folder = _folder(ref)
        if self._remote.read(f"{folder}/{MANIFEST}") is not None:
            return
        manifest = read_manifest(ref)
        files = f"{folder}/{_files_folder(manifest)}"
        there = self._remote.sizes(files)
        missing = [name for name, entry in manifest.files.items() if there.get(name) != entry.bytes]
        self._upload(ref, manifest, missing)
        self._remote.write(f"{folder}/{MANIFEST}", ref.file(MANIFEST).read_bytes())

    def bring(self, ref: ArtefactRef) -> bool:
        """Download an artefact and verify it: it appears here whole, or not at all.

        Returns:
            Whether there is one.

        Raises:
            ArtefactError: its manifest or a file of it is damaged or missing: named, and nothing of it is taken.
            StorageError: the storage cannot be reached.
        """
        folder = _folder(ref)
        text = self._remote.read(f"{folder}/{MANIFEST}")
        if text is None:
            return False
        manifest = self._manifest(ref, text)
        target = Path(ref.path)
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self._download(ref, manifest, draft)
            (draft / MANIFEST).write_bytes(text)
            settle(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def _manifest(self, ref: ArtefactRef, text: bytes) -> Manifest:
        where = self._remote.address(f"{_folder(ref)}/{MANIFEST}")
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise ArtefactError(
                f"the manifest is damaged ({error.error_count()} faults)", where=where, remedy=_remedy(where)
            ) from None
        outside = [name for name in manifest.files if PurePosixPath(name).is_absolute() or ".." in Path(name).parts]
        if (manifest.kind, manifest.digest) != (ref.kind, ref.digest) or outside:
            raise ArtefactError("the manifest is another artefact's", where=where, remedy=_remedy(where))
        return manifest

    def _upload(self, ref: ArtefactRef, manifest: Manifest, missing: list[str]) -> None:
        files, parents = f"{_folder(ref)}/{_files_folder(manifest)}", _of_parents(ref, manifest)
        travel = {}
        for name in missing:
            twin = parents.get(manifest.files[name].sha256)
            if twin is not None and self._remote.copy(twin.there, f"{files}/{name}"):
                continue
            if file_sha256(ref.file(name)) != manifest.files[name].sha256:
                remedy = "remove that artefact's directory and run again: it is made anew"
                raise _damaged(str(ref.file(name)), remedy)
            travel[f"{files}/{name}"] = ref.file(name)
        self._remote.put(travel)

    def _download(self, ref: ArtefactRef, manifest: Manifest, draft: Path) -> None:
        files, parents = f"{_folder(ref)}/{_files_folder(manifest)}", _of_parents(ref, manifest)
        remedy = _remedy(self._remote.address(f"{_folder(ref)}/{MANIFEST}"))
        draft.mkdir(parents=True)
        travel = []
        for name, entry in manifest.files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            twin = parents.get(entry.sha256)
            if twin is not None and twin.here.is_file() and file_sha256(twin.here) == entry.sha256:
                link(twin.here, draft / name)
            else:
                travel.append(name)
        there = self._remote.sizes(files) if travel else {}
        for name in travel:
            size = manifest.files[name].bytes
            if there.get(name) != size:
                what = "is missing" if name not in there else f"has {there[name]} bytes instead of {size}"
                raise ArtefactError(f"the file {what}", where=self._remote.address(f"{files}/{name}"), remedy=remedy)
        self._remote.get({f"{files}/{name}": draft / name for name in travel})
        for name in travel:
            if file_sha256(draft / name) != manifest.files[name].sha256:
                raise _damaged(self._remote.address(f"{files}/{name}"), remedy)


@dataclass(frozen=True)
class _Twin:
    """A file of a parent, here and there."""

    here: Path
    there: str


def _of_parents(ref: ArtefactRef, manifest: Manifest) -> dict[str, _Twin]:
    """The files of those parents that are here, by their SHA-256."""
    store = Path(ref.path).parents[1]
    twins = {}
    for digest in filter(str.isalnum, manifest.parents.values()):
        for path in store.glob(f"*/{digest}/{MANIFEST}"):
            parent = ArtefactRef(kind=path.parents[1].name, path=str(path.parent), digest=digest)
            theirs = read_manifest(parent)
            folder = f"{_folder(parent)}/{_files_folder(theirs)}"
            for name, entry in theirs.files.items():
                twins[entry.sha256] = _Twin(parent.file(name), f"{folder}/{name}")
    return twins


def _folder(ref: ArtefactRef) -> str:
    return f"artefacts/{ref.kind}/{ref.digest}"


def _files_folder(manifest: Manifest) -> str:
    content = {name: entry.sha256 for name, entry in manifest.files.items()}
    return f"files-{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]}"


def _damaged(where: str, remedy: str) -> ArtefactError:
    return ArtefactError("the bytes are not those that were written (sha256 differs)", where=where, remedy=remedy)


def _remedy(manifest: str) -> str:
    return (
        f"remove everything under {manifest.removesuffix(MANIFEST)} and run again: a machine that has the artefact "
        "uploads it, another one makes it anew"
    )
