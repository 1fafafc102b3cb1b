"""Lists published on object storage too: the same folders, generations and pointer as under home.

The order of a publication: the generation's files go up; then, in the fence, the storage's ``CURRENT``; then home's.
The storage is what a service of many machines reads, so its pointer leads: a storage that fails at any point leaves
both pointers as they were, and a run that is killed between the two is put right by the next, which finds the
storage's pointer swapped and swaps home's. The other order would leave the storage behind a home that says "published".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from recsys.artefacts import ArtefactRef, read_manifest, verified_file
from recsys.errors import PublicationError, StorageError
from recsys.publish.files import SIMILAR, TABLES, TOP_N, Fence, FileSink, Pointer, Publication, before
from recsys.storage import Remote

POINTER = f"exports/{TOP_N}/CURRENT"


class RemoteExports:
    """Publishes under ``<url>/exports``."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def current(self) -> Pointer | None:
        """What is served, or None before the first publication.

        Raises:
            PublicationError: the pointer cannot be read.
        """
        text = self._remote.read(POINTER)
        try:
            return None if text is None else Pointer.model_validate_json(text)
        except ValidationError:
            raise PublicationError(
                "the pointer is damaged",
                where=self._remote.address(POINTER),
                remedy="remove it and run `marquee nightly`: it is written anew",
            ) from None

    def upload(self, lists: ArtefactRef, publication: Publication) -> Publication:
        """Bring a generation's files up, whole, without serving it.

        A generation that the pointer names already is never touched: where another machine published the same one with
        other bytes, that one stays.

        Returns:
            The publication as it lies on the storage.

        Raises:
            ArtefactError: a file of the artefact is not the one that was written.
            PublicationError: a file did not arrive whole.
        """
        ours = publication.model_copy(
            update={
                "path": self._remote.address(_folder(TOP_N, publication)),
                "similar_path": self._remote.address(_folder(SIMILAR, publication)),
            }
        )
        named = next((each for each in _named(self.current()) if _key(each) == _key(ours)), None)
        if named is not None and named.digest != ours.digest:
            return named
        files = _files(lists, ours)
        sizes = {name: read_manifest(lists).files[source].bytes for name, source in files.items()}
        there = self._sizes(ours) if named is not None else {}
        missing = {name: source for name, source in files.items() if there.get(name) != sizes[name]}
        self._remote.put({name: verified_file(lists, source) for name, source in missing.items()})
        there = self._sizes(ours)
        for name, size in sizes.items():
            if there.get(name) != size:
                raise PublicationError(
                    f"the file did not arrive whole ({there.get(name, 0)} of {size} bytes)",
                    where=self._remote.address(name),
                    remedy="run again; what was served is untouched",
                )
        return ours

    def serve(self, publication: Publication, keep: int = 3) -> bool:
        """Swap the pointer to a generation that is up; False where it is served already."""
        served = self.current()
        if served is not None and _key(served) == _key(publication):
            return False
        self._point(Pointer(**publication.model_dump(), previous=before(served, publication, keep)))
        return True

    def previous(self) -> Pointer:
        """The pointer that a rollback would write.

        Raises:
            PublicationError: there is no previous publication, or its files are gone.
        """
        served = self.current()
        if served is None or not served.previous:
            raise PublicationError(
                "there is no previous publication to put back",
                where=self._remote.address(POINTER),
                remedy="publish a night first",
            )
        back = served.previous[0]
        if not any(name.startswith("part-") for name in self._remote.sizes(_folder(TOP_N, back))):
            raise PublicationError("the previous publication's files are gone", where=back.path)
        return Pointer(**back.model_dump(), previous=served.previous[1:])

    def put_back(self, pointer: Pointer) -> None:
        """Serve what :meth:`previous` gave."""
        self._point(pointer)

    def prune(self) -> None:
        """Remove generations that the pointer does not name, and leftovers of killed runs."""
        kept = {_key(each) for each in _named(self.current())}
        for table in TABLES:
            nights = {tuple(name.split("/")[:2]) for name in self._remote.sizes(f"exports/{table}") if "/" in name}
            for night, generation in sorted(nights):
                if (night.removeprefix("run_date="), generation.removeprefix("generation=")) not in kept:
                    self._remote.remove(f"exports/{table}/{night}/{generation}")

    def _point(self, pointer: Pointer) -> None:
        self._remote.write(POINTER, (pointer.model_dump_json(indent=1) + "\n").encode())

    def _sizes(self, publication: Publication) -> dict[str, int]:
        folders = [_folder(table, publication) for table in TABLES]
        return {f"{folder}/{name}": size for folder in folders for name, size in self._remote.sizes(folder).items()}


def publish(
    sink: FileSink,
    remote: Remote | None,
    lists: ArtefactRef,
    *,
    run_date: date,
    users: int,
    model_version: str,
    run_id: str,
    keep: int = 3,
    fence: Fence = nullcontext,
) -> tuple[Pointer, bool]:
    """Publish under home as :meth:`FileSink.publish` does, and on the storage where there is one.

    Raises:
        PublicationError: a copy differs from the artefact, or the run may no longer publish.
        StorageError: the storage cannot be reached; what is served, here and there, is as it was.
    """
    at_home = partial(
        sink.publish, lists, run_date=run_date, users=users, model_version=model_version, run_id=run_id, keep=keep
    )
    if remote is None:
        return at_home(fence=fence)
    exports = RemoteExports(remote)
    publication = exports.upload(
        lists,
        sink.publication(lists, run_date=run_date, users=users, model_version=model_version, run_id=run_id),
    )

    @contextmanager
    def storage_first() -> Iterator[None]:
        with fence():
            exports.serve(publication, keep)
            yield

    pointer, reused = at_home(fence=storage_first)
    if reused:  # home serves it already: the storage may not, after a rollback elsewhere or under another url
        with fence():
            reused = not exports.serve(publication, keep)
    with suppress(StorageError):  # it is published; the next publication prunes again
        exports.prune()
    return pointer, reused


def rollback(sink: FileSink, remote: Remote | None, fence: Fence = nullcontext) -> Pointer:
    """Serve the previous publication again, here and on the storage where there is one.

    The storage's previous publication counts. Home follows where its own is the same; on a machine that did not
    publish them it stays as it is.

    Raises:
        PublicationError: there is none, or its files are gone.
        StorageError: the storage cannot be reached; what is served, here and there, is as it was.
    """
    if remote is None:
        return sink.rollback(fence)
    exports = RemoteExports(remote)
    back = exports.previous()

    @contextmanager
    def storage_first() -> Iterator[None]:
        with fence():
            exports.put_back(back)
            yield

    served = sink.current()
    if served is not None and served.previous and _key(served.previous[0]) == _key(back):
        return sink.rollback(storage_first)
    with storage_first():
        return back


def _folder(table: str, publication: Publication) -> str:
    return f"exports/{table}/run_date={publication.run_date}/generation={publication.generation}"


def _files(lists: ArtefactRef, publication: Publication) -> dict[str, str]:
    """Name on the storage → name in the artefact."""
    return {
        f"{_folder(table, publication)}/{Path(name).name}": name
        for table, source in TABLES.items()
        for name in read_manifest(lists).files
        if name.startswith(f"{source}/")
    }


def _named(pointer: Pointer | None) -> tuple[Publication, ...]:
    return () if pointer is None else (pointer, *pointer.previous)


def _key(publication: Publication) -> tuple[str, str]:
    return publication.run_date.isoformat(), publication.generation
