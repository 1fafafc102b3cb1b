"""Zip archives opened without trust: no path leads outside, no link is followed, nothing swells without bound."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from recsys.errors import SourceError

MAX_RATIO = 300
"""Most bytes that one packed byte may become (ratings pack about 1:5, a bomb 1:1000)."""
MAX_BYTES = 64 << 30
_SMALL = 64 << 20
"""Below this size a high ratio is harmless."""


def list_members(archive: Path) -> list[str]:
    """The names of an archive's files, after it has been checked as a whole.

    Raises:
        SourceError: it is no zip, it is cut off, or an entry is hostile (``../``, absolute, a link, a bomb, encrypted).
    """
    with _opened(archive) as zipped:
        return [entry.filename for entry in zipped.infolist() if not entry.is_dir()]


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Read one file of an archive, as a stream. Its checksum is verified once the stream has been read to its end.

    Raises:
        SourceError: as :func:`list_members`, or the archive has no such file.
    """
    with _opened(archive) as zipped:
        try:
            stream = zipped.open(member)
        except KeyError:
            raise SourceError(f"the archive has no file {member!r}", where=str(archive)) from None
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise SourceError(f"cannot be unpacked ({error})", where=f"{archive}:{member}", remedy=_AGAIN) from None
        with stream:
            yield stream


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    if not archive.is_file():
        raise SourceError("there is no such file", where=str(archive), remedy="mend the path under [source]")
    try:
        zipped = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise SourceError(f"is not a whole zip archive ({error})", where=str(archive), remedy=_AGAIN) from None
    with zipped:
        _check(archive, zipped.infolist())
        yield zipped


def _check(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    total = 0
    for entry in entries:
        fault = _fault(entry)
        total += entry.file_size
        if total > MAX_BYTES:
            fault = f"would unpack to more than {MAX_BYTES >> 30} GiB"
        if fault:
            raise SourceError(
                f"the archive is refused: {entry.filename!r} {fault}",
                where=str(archive),
                remedy="bring the archive from its publisher",
            )


def _fault(entry: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", entry.filename):
        return "points outside"
    mode = entry.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.file_size > _SMALL and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return f"would swell {entry.file_size // max(entry.compress_size, 1)}-fold"
    return None


_AGAIN = "bring the file again: it is cut off or damaged"
