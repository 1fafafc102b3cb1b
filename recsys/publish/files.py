"""The Parquet sink: whole generations beside each other, and one pointer that names the one that is served.

``exports/top_n/run_date=…/generation=…/part-*.parquet``, ``exports/similar_titles/…`` likewise, and
``exports/top_n/CURRENT`` (JSON), replaced atomically. A reader opens CURRENT and reads the generation it names:
it never sees a part of one, or a mix.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.artefacts import ArtefactRef, file_sha256, fsync, read_manifest, write_text
from recsys.errors import PublicationError

Fence = Callable[[], AbstractContextManager[object]]
TOP_N = "top_n"
SIMILAR = "similar_titles"
TABLES = {TOP_N: "recommendations", SIMILAR: "similar_titles"}
"""Folder of the sink → folder of the artefact."""


class Publication(BaseModel):
    """One published generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: str
    run_date: date
    path: str
    """Directory of the lists' part files."""
    similar_path: str
    rows: int
    users: int
    digest: str
    """sha256 over the part files' sha256, in order."""
    model_version: str
    run_id: str


class Pointer(Publication):
    """CURRENT: what is served, and what was served before it, newest first."""

    previous: tuple[Publication, ...] = Field(default=())


class FileSink:
    """Publishes under ``<home>/exports``."""

    def __init__(self, home: Path) -> None:
        self.root = home.resolve() / "exports"

    @property
    def pointer_path(self) -> Path:
        """Where the pointer lies."""
        return self.root / TOP_N / "CURRENT"

    def current(self) -> Pointer | None:
        """What is served, or None before the first publication.

        Raises:
            PublicationError: the pointer cannot be read.
        """
        try:
            return Pointer.model_validate_json(self.pointer_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise PublicationError(
                "the pointer is damaged",
                where=str(self.pointer_path),
                remedy="run `marquee nightly`: it is written anew",
            ) from None

    def folder(self, publication: Publication, table: str = TOP_N) -> Path:
        """Where a publication's table lies (wherever the home has been moved to)."""
        return self.root / table / f"run_date={publication.run_date}" / f"generation={publication.generation}"

    def publish(
        self,
        lists: ArtefactRef,
        *,
        run_date: date,
        users: int,
        model_version: str,
        run_id: str,
        keep: int = 3,
        fence: Fence = nullcontext,
    ) -> tuple[Pointer, bool]:
        """Copy a recommendations artefact into place, verify it, and swap the pointer.

        Args:
            lists: artefact with ``recommendations/part-*.parquet`` and ``similar_titles/part-*.parquet``.
            run_date: the night.
            users: number of users that have a list.
            model_version: what made it.
            run_id: who publishes.
            keep: generations that stay, the new one included.
            fence: entered around the swap; raises where this run may no longer publish (its lock was lost).

        Returns:
            The pointer as it now is, and whether it was so already.

        Raises:
            PublicationError: the copy differs from the artefact.
        """
        publication = self.publication(
            lists, run_date=run_date, users=users, model_version=model_version, run_id=run_id
        )
        served = self.current() if self.pointer_path.exists() else None
        if served is not None and served.generation == publication.generation and self._whole(served, lists):
            return served, True
        for table in (SIMILAR, TOP_N):
            self._copy(lists, publication, table)
        pointer = Pointer(**publication.model_dump(), previous=before(served, publication, keep))
        with fence():
            write_text(self.pointer_path, pointer.model_dump_json(indent=1) + "\n")
        self.prune(pointer)
        return pointer, False

    def publication(
        self, lists: ArtefactRef, *, run_date: date, users: int, model_version: str, run_id: str
    ) -> Publication:
        """What a recommendations artefact is called once it is published here (see :meth:`publish`)."""
        manifest = read_manifest(lists)
        parts = [name for name in sorted(manifest.files) if name.startswith("recommendations/part-")]
        return Publication(
            generation=lists.digest,
            run_date=run_date,
            path=str(self.root / TOP_N / f"run_date={run_date}" / f"generation={lists.digest}"),
            similar_path=str(self.root / SIMILAR / f"run_date={run_date}" / f"generation={lists.digest}"),
            rows=manifest.rows["recommendations"],
            users=users,
            digest=_digest_of_parts([manifest.files[name].sha256 for name in parts]),
            model_version=model_version,
            run_id=run_id,
        )

    def rollback(self, fence: Fence = nullcontext) -> Pointer:
        """Serve the previous publication again.

        Raises:
            PublicationError: there is none, or its files are gone.
        """
        served = self.current()
        if served is None or not served.previous:
            raise PublicationError(
                "there is no previous publication to put back",
                where=str(self.pointer_path),
                remedy="publish a night first",
            )
        back = served.previous[0]
        if not any(self.folder(back).glob("part-*.parquet")):
            raise PublicationError("the previous publication's files are gone", where=str(self.folder(back)))
        pointer = Pointer(**back.model_dump(), previous=served.previous[1:])
        with fence():
            write_text(self.pointer_path, pointer.model_dump_json(indent=1) + "\n")
        return pointer

    def prune(self, pointer: Pointer) -> None:
        """Remove generations that the pointer does not name, and leftovers of killed runs."""
        named = {(p.run_date.isoformat(), p.generation) for p in (pointer, *pointer.previous)}
        for table in TABLES:
            for folder in (self.root / table).glob("run_date=*/*generation=*"):
                night = folder.parent.name.removeprefix("run_date=")
                if (night, folder.name.removeprefix("generation=")) not in named:
                    shutil.rmtree(folder, ignore_errors=True)
            for night_folder in (self.root / table).glob("run_date=*"):
                if not any(night_folder.iterdir()):
                    night_folder.rmdir()

    def _whole(self, publication: Publication, lists: ArtefactRef) -> bool:
        files = read_manifest(lists).files
        for table, source in TABLES.items():
            for name, entry in files.items():
                if name.startswith(f"{source}/"):
                    path = self.folder(publication, table) / Path(name).name
                    if not path.is_file() or path.stat().st_size != entry.bytes:
                        return False
        return True

    def _copy(self, lists: ArtefactRef, publication: Publication, table: str) -> None:
        target = self.folder(publication, table)
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            draft.mkdir(parents=True)
            for name, entry in read_manifest(lists).files.items():
                if name.startswith(f"{TABLES[table]}/"):
                    copy = Path(shutil.copyfile(lists.file(name), draft / Path(name).name))
                    if file_sha256(copy) != entry.sha256:
                        raise PublicationError(
                            "the bytes are not those that were audited (sha256 differs)",
                            where=str(lists.file(name)),
                            remedy="remove that artefact's directory and run again; what was served is untouched",
                        )
                    fsync(copy)
            fsync(draft)
            if target.exists():
                shutil.rmtree(target)  # not served: the pointer does not name it, or it was found damaged
            draft.rename(target)
            fsync(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def before(served: Pointer | None, new: Publication, keep: int) -> tuple[Publication, ...]:
    """What a new publication's pointer names as served before it: ``keep`` generations with the new one."""
    if served is None:
        return ()
    last = Publication(**served.model_dump(exclude={"previous"}))
    chain = [p for p in (last, *served.previous) if p.generation != new.generation]
    return tuple(chain[: keep - 1])


def _digest_of_parts(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
