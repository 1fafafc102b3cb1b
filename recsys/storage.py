"""Object storage through fsspec: named files under one address, whole or not at all.

``s3://bucket/folder`` (with ``marquee[s3]``), ``file:///mnt/folder``, ``memory://folder``. Credentials come from where
the storage's own library looks for them (for S3 the environment), never from here. Knows nothing of what files mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import fsspec

from recsys.config import StorageConfig
from recsys.errors import MarqueeError, StorageError, UsageError

_PART_BYTES = 8 << 20
"""Of an upload or a download. S3 takes 10,000 parts, so that a file may have 80 GB."""
_PARTS_AT_ONCE = 2
"""Of one file. With the number of workers they bound the memory: workers × (parts + 1) × 8 MB, where s3fs by itself
would hold ten parts of 50 MB a file."""
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 5, 60, 3

Item = TypeVar("Item")


class Remote:
    """A folder on object storage. Its methods raise :class:`StorageError` where the storage cannot be used."""

    def __init__(self, url: str, *, endpoint: str | None = None, workers: int = 4) -> None:
        """Name the folder; nothing is reached before it is used.

        Args:
            url: such as ``s3://bucket/marquee``.
            endpoint: of an S3-compatible server (None: AWS, or what the environment names).
            workers: files on their way at the same time.
        """
        self.url = url.rstrip("/")
        self.protocol = self.url.partition("://")[0]
        self._endpoint = endpoint
        self._workers = workers

    @classmethod
    def of(cls, config: StorageConfig) -> Remote | None:
        """The configured one, or None."""
        return cls(config.url, endpoint=config.endpoint, workers=config.workers) if config.url else None

    def address(self, name: str) -> str:
        """The whole address of a file or folder."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """A small file's bytes, or None where there is none."""
        with self._reaching(name, "read"):
            try:
                return bytes(self._system.cat_file(self.address(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one go: a reader finds the old bytes or the new, never a part."""
        with self._reaching(name, "written"):
            if self.protocol != "file":  # object stores replace an object whole
                self._system.pipe_file(self.address(name), content)
                return
            draft = self.address(f"{name}.{uuid4().hex[:8]}.tmp")
            self._system.pipe_file(draft, content)
            self._system.mv(draft, self.address(name))

    def put(self, files: Mapping[str, Path]) -> None:
        """Upload files, several at a time; the first fault ends it. What has arrived stays."""
        self._each(self._put, files.items())

    def get(self, files: Mapping[str, Path]) -> None:
        """Download files, several at a time, into folders that exist.

        Raises:
            StorageError: one is missing, or the storage cannot be reached.
        """
        self._each(self._get, files.items())

    def copy(self, source: str, target: str) -> bool:
        """Copy a file there without its bytes coming here; False where there is no source."""
        with self._reaching(target, "written"):
            try:
                self._system.cp_file(self.address(source), self.address(target))
            except FileNotFoundError:
                return False
            return True

    def sizes(self, folder: str) -> dict[str, int]:
        """The files under a folder, however deep (name below the folder → bytes)."""
        with self._reaching(folder, "listed"):
            found = self._system.find(self.address(folder), detail=True)
            root = self._system._strip_protocol(self.address(folder)).rstrip("/") + "/"
            files = {path: entry for path, entry in found.items() if path.startswith(root) and entry["type"] == "file"}
            return {path.removeprefix(root): int(entry["size"]) for path, entry in files.items()}

    def remove(self, folder: str) -> None:
        """Remove a folder and all under it; no fault where it is not there."""
        with self._reaching(folder, "removed"), suppress(FileNotFoundError):
            self._system.rm(self.address(folder), recursive=True)

    def _put(self, item: tuple[str, Path]) -> None:
        name, path = item
        with self._reaching(name, "written"):
            self._system.put_file(str(path), self.address(name), **self._in_parts)

    def _get(self, item: tuple[str, Path]) -> None:
        name, path = item
        with self._reaching(name, "read"):
            self._system.get_file(self.address(name), str(path), **self._in_parts)

    def _each(self, call: Callable[[Item], None], items: Collection[Item]) -> None:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="storage") as pool:
            try:
                for done in as_completed([pool.submit(call, item) for item in items]):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @cached_property
    def _system(self) -> Any:
        options: dict[str, Any] = {"use_listings_cache": False}
        if self.protocol == "s3":
            tries = {"mode": "standard", "total_max_attempts": _TRIES}  # s3fs tries five times around it
            timeouts = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
            options |= {"endpoint_url": self._endpoint, "config_kwargs": {**timeouts, "retries": tries}}
        elif self.protocol == "file":
            options |= {"auto_mkdir": True}
        try:
            return fsspec.filesystem(self.protocol, **options)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"nothing here reads this kind of address ({_line(error)})",
                where=f"[storage] url = {self.url}",
                remedy="for s3:// install marquee[s3]; for another one fsspec's package for it",
            ) from None

    @property
    def _in_parts(self) -> dict[str, int]:
        return {"chunksize": _PART_BYTES, "max_concurrency": _PARTS_AT_ONCE} if self.protocol == "s3" else {}

    @contextmanager
    def _reaching(self, name: str, verb: str) -> Iterator[None]:
        """Tell whatever the storage's library raises (each has errors of its own) as one paragraph."""
        try:
            yield
        except MarqueeError:
            raise
        except Exception as error:
            raise StorageError(
                f"it cannot be {verb} on the object storage ({_line(error)})",
                where=self.address(name),
                remedy="see that the server runs, that [storage] url and endpoint name it, and that the environment "
                "holds its credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); then run again: what was made here "
                "stays and is only uploaded, and what is served is as it was",
            ) from error


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
