"""Bringing files from outside: over the network with resumption, out of wheels; whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from recsys.artefacts import fsync
from recsys.data.sources.base import Note, silent
from recsys.errors import DownloadError, SourceError

_BLOCK = 1 << 20
_SAID_EVERY = 50 << 20
MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class Checksum:
    """What a file's bytes must hash to."""

    algorithm: Literal["md5", "sha256"]
    value: str

    def of(self, path: Path) -> bool:
        """Whether a file has it."""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, self.algorithm).hexdigest() == self.value


class _SameSite(urllib.request.HTTPRedirectHandler):
    """Follows redirects within one host and never to a weaker scheme: a name that we trust stays the one we ask."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.hostname != old.hostname or new.scheme not in (old.scheme, "https"):
            raise SourceError(f"redirects to {new.scheme}://{new.hostname}, which is refused", where=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_SameSite)


def fetch(url: str, target: Path, checksum: Checksum, *, note: Note = silent, timeout: float = 30.0) -> Path:
    """Bring a file. What an earlier attempt has brought is kept in ``<target>.part`` and continued.

    Args:
        url: http or https.
        target: where the file appears once it is whole and has its checksum.
        checksum: what it must hash to.
        note: hears of the progress of large files.
        timeout: seconds without an answer.

    Raises:
        DownloadError: the server cannot be reached or breaks off: try again, and it continues.
        SourceError: what came is not the file (its checksum is another); it is thrown away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _continue(url, part, note, timeout)
    if not checksum.of(part):
        part.unlink()
        raise SourceError(
            f"what was brought is not the published file ({checksum.algorithm} is not {checksum.value})",
            where=url,
            remedy="try again later, or bring the file by hand and set [source] path",
        )
    fsync(part)
    part.replace(target)
    return target


def fetch_text(url: str, *, timeout: float = 30.0, limit: int = 1 << 16) -> str:
    """A small text from a URL.

    Raises:
        DownloadError: it cannot be had just now.
    """
    try:
        with _opener.open(_request(url), timeout=timeout) as answer:
            return str(answer.read(limit).decode("utf-8", errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None


def _request(url: str, start: int = 0) -> urllib.request.Request:
    if not url.startswith(("https://", "http://")):
        raise SourceError("only http and https are fetched", where=url)
    headers = {"User-Agent": "marquee", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.Request(url, headers=headers)


def _continue(url: str, part: Path, note: Note, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    try:
        with _opener.open(_request(url, have), timeout=timeout) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            if have and resumed:
                note(f"continuing {part.stem} at {have >> 20} MB")
            _store(answer, part, have if resumed else 0, note)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # all of it is there already: the checksum will tell
        raise _unreachable(url, error) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None


def _store(answer: http.client.HTTPResponse, part: Path, have: int, note: Note) -> None:
    expected = answer.length
    done = 0
    with part.open("ab" if have else "wb") as sink:
        while block := answer.read(_BLOCK):
            sink.write(block)
            done += len(block)
            if have + done > MAX_BYTES:
                raise SourceError(f"is larger than {MAX_BYTES >> 30} GB", where=part.stem)
            if done // _SAID_EVERY != (done - len(block)) // _SAID_EVERY:
                note(f"{part.stem}: {(have + done) >> 20} MB" + (f" of {(have + expected) >> 20}" if expected else ""))
    if expected is not None and done < expected:
        raise http.client.IncompleteRead(b"", expected - done)


def _unreachable(url: str, error: Exception) -> DownloadError:
    reason = getattr(error, "reason", None) or error
    return DownloadError(
        f"cannot be brought just now ({type(error).__name__}: {reason})",
        where=url,
        remedy="check the network and try again, or bring the file by hand and set [source] path",
    )


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel of which data are read. It is never installed."""

    name: str
    version: str
    file: str
    sha256: str


def fetch_wheel(wheel: Wheel, folder: Path, *, note: Note = silent, timeout: float = 300.0) -> Path:
    """Bring a wheel with pip, without its dependencies. One that lies in ``folder`` already is used.

    Raises:
        DownloadError: pip cannot bring it.
        SourceError: it is not the pinned file.
    """
    target = folder / wheel.file
    checksum = Checksum("sha256", wheel.sha256)
    if target.is_file() and checksum.of(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    note(f"bringing {wheel.name} {wheel.version} with pip (its data are read; it is not installed)")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pip-") as scratch:
        _pip_download(wheel, Path(scratch), folder, timeout)
        brought = Path(scratch) / wheel.file
        if not brought.is_file() or not checksum.of(brought):
            raise SourceError(
                f"pip brought another file than the pinned {wheel.file} (sha256 {wheel.sha256})",
                where=f"{wheel.name}=={wheel.version}",
                remedy=f"put the right file into {folder}",
            )
        fsync(brought)
        shutil.move(brought, target)
    return target


def _pip_download(wheel: Wheel, scratch: Path, folder: Path, timeout: float) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input",
        "--disable-pip-version-check", "--quiet", "--dest", str(scratch), f"{wheel.name}=={wheel.version}",
    ]  # fmt: skip
    remedy = f"check the network and pip's settings, or put {wheel.file} into {folder}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise DownloadError(
            f"pip did not bring it within {timeout:g} s", where=f"{wheel.name}=={wheel.version}", remedy=remedy
        ) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise DownloadError(
            f"pip cannot bring it ({lines[-1].strip()[:200]})", where=f"{wheel.name}=={wheel.version}", remedy=remedy
        )
