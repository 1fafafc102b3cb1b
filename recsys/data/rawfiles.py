"""Raw files made readable: unpacked, in UTF-8, with the line ends that the reader takes. Lines keep their numbers.

A plain UTF-8 file is read where it lies; anything else becomes a copy in a scratch folder. Everything goes by in
blocks: memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import csv
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.archives import open_member
from recsys.data.sources.base import RawFile
from recsys.errors import SourceError
from recsys.histories import Longs

BLOCK = 1 << 22
_DAMAGED = "bring the file again: it is cut off or damaged"


@dataclass(frozen=True)
class Stretches:
    """Where stretches of a file stand in a text put together of them: the lines (from 1) at which each begins."""

    starts_here: Longs
    starts_there: Longs

    def there(self, numbers: pa.Array) -> pa.Array:
        """The numbers in the file of lines of the text; null stays null."""
        known = numbers.cast(pa.int64())
        here = np.asarray(known.fill_null(1))
        place = np.searchsorted(self.starts_here, here, side="right") - 1
        return pc.if_else(known.is_null(), known, pa.array(here - self.starts_here[place] + self.starts_there[place]))


@dataclass(frozen=True)
class TextFile:
    """A delimited file, ready to be read: UTF-8, lines ending in LF or CRLF."""

    path: Path
    name: str
    where: str
    lines: int
    """Lines with something in them, the header included."""
    has_quotes: bool
    copied: bool
    """Whether it is a copy in the scratch folder, to be removed once it has been read."""
    remark: str = ""
    """What had to be done to it, for a person to know."""
    stretches: Stretches | None = None
    """Where it is put together from stretches of another file."""

    def line(self, numbers: pa.Array) -> pa.Array:
        """The numbers of its lines in the file that it comes from."""
        return numbers if self.stretches is None else self.stretches.there(numbers)


@dataclass
class _Scan:
    newlines: int = 0
    returns: int = 0
    pairs: int = 0
    filled: int = 0
    quotes: int = 0
    valid: int = 0
    """Runs of bytes that are UTF-8 beyond ASCII …"""
    invalid: int = 0
    """… and runs that are not UTF-8 at all."""


def prepare(raw: RawFile, scratch: Path) -> TextFile:
    """Make a raw file readable.

    Args:
        raw: a text file, plain, ``.gz``, ``.zst`` or a member of a zip.
        scratch: where a copy may be written.

    Raises:
        SourceError: the file is missing, empty, truncated or damaged.
    """
    path = unpacked(raw, scratch)
    _refuse_empty(path, raw)
    scan = _scan(path)
    # A Latin-1 text has bytes that are not UTF-8 all over; a UTF-8 text with a damaged line has few.
    encoding = _marked_encoding(path) or ("cp1252" if scan.invalid > scan.valid else "utf-8")
    remarks = []
    if encoding != "utf-8" or _odd_line_ends(scan):
        if encoding != "utf-8":
            remarks.append(f"read as {'Latin-1' if encoding == 'cp1252' else encoding.upper()}")
        if _odd_line_ends(scan):
            remarks.append("line ends made uniform")
        before, path = path, _normalised(path, encoding, _fresh(scratch))
        if before != raw.path:
            before.unlink()
        scan = _scan(path)
    if not scan.filled:
        raise SourceError("the file is empty", where=raw.where, remedy="check what wrote it, and bring it again")
    return TextFile(path, raw.name, raw.where, scan.filled, scan.quotes > 0, path != raw.path, ", ".join(remarks))


def first_line(file: TextFile) -> str:
    """The first line that is not empty."""
    with file.path.open("rb") as stream:
        for line in stream:
            text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
            if text:
                return text
    return ""


def fields(line: str, delimiter: str, quoted: bool) -> list[str]:
    """A line's fields."""
    if quoted and len(delimiter) == 1:
        return next(csv.reader([line], delimiter=delimiter))
    return line.split(delimiter)


def blocks(path: Path) -> Iterator[bytes]:
    """A file's bytes in blocks."""
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def _refuse_empty(path: Path, raw: RawFile) -> None:
    if path.stat().st_size == 0:
        raise SourceError("the file is empty", where=raw.where, remedy="check what wrote it, and bring it again")


def _fresh(scratch: Path) -> Path:
    return scratch / f"{uuid.uuid4().hex}.copy"


def unpacked(raw: RawFile, scratch: Path) -> Path:
    """The file itself, or an unpacked copy of it.

    Raises:
        SourceError: the file is missing, truncated or damaged.
    """
    suffix = Path(raw.name).suffix.lower()
    if raw.member is None and suffix not in (".gz", ".zst"):
        if not raw.path.is_file():
            raise SourceError("there is no such file", where=raw.where, remedy="mend the path under [source]")
        return raw.path
    target = _fresh(scratch)
    try:
        with ExitStack() as stack:
            source: IO[bytes] = (
                stack.enter_context(open_member(raw.path, raw.member))
                if raw.member is not None
                else stack.enter_context(raw.path.open("rb"))
            )
            sink = stack.enter_context(target.open("wb"))
            stream = _decompressed(source, suffix)
            while block := stream.read(BLOCK):
                sink.write(block)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            raise SourceError("there is no such file", where=raw.where, remedy="mend the path under [source]") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceError(f"cannot be unpacked ({error})", where=raw.where, remedy=_DAMAGED) from None
    return target


def _decompressed(source: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return pa.CompressedInputStream(pa.PythonFile(source, "r"), "gzip")  # type: ignore[no-any-return]
    if suffix == ".zst":
        return pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd")  # type: ignore[no-any-return]
    return source


def _marked_encoding(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else None


def _odd_line_ends(scan: _Scan) -> bool:
    """Whether returns stand alone, or CRLF and LF are mixed: the reader wants one kind."""
    return scan.returns != scan.pairs or (0 < scan.pairs < scan.newlines)


def _scan(path: Path) -> _Scan:
    """One pass over the bytes: what line ends, quotes and encoding the file has."""
    scan = _Scan()
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    tail = b""
    for block in blocks(path):
        scan.newlines += block.count(b"\n")
        scan.returns += block.count(b"\r")
        scan.pairs += block.count(b"\r\n") + (tail[-1:] == b"\r" and block[:1] == b"\n")
        scan.quotes += block.count(b'"')
        scan.filled += _filled_lines(tail + block, ends=len(tail))
        _count_encoded(scan, decoder.decode(block), ascii_only=block.isascii())
        tail = (tail + block)[-2:]
    _count_encoded(scan, decoder.decode(b"", final=True), ascii_only=False)
    if tail and tail[-1:] != b"\n":
        scan.filled += 1
    return scan


def _filled_lines(data: bytes, *, ends: int) -> int:
    """Newlines (from position ``ends`` on) that end a line with something in it."""
    octets = np.frombuffer(data, np.uint8)
    ending = np.flatnonzero(octets[ends:] == 10) + ends
    before = octets[np.maximum(ending - 1, 0)]
    second = octets[np.maximum(ending - 2, 0)]
    bare = (ending == 0) | (before == 10)
    returned = (before == 13) & ((ending == 1) | (second == 10))
    return int(len(ending) - np.count_nonzero(bare | returned))


def _count_encoded(scan: _Scan, text: str, *, ascii_only: bool) -> None:
    if ascii_only or text.isascii():
        return
    scan.invalid += len(re.findall("[\udc80-\udcff]+", text))
    scan.valid += len(re.findall("[\u0080-\ud7ff\ue000-\U0010ffff]+", text))


def _normalised(path: Path, encoding: str, target: Path) -> Path:
    """A copy in UTF-8 with LF line ends. A lone CR is a line end where there is no LF at all, else a space."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if encoding == "utf-8" else "replace")
    lone = "\n" if not _has_newline(path) else " "
    held = ""
    with target.open("wb") as sink:
        for block in _closed(blocks(path)):
            text = held + (decoder.decode(block) if block is not None else decoder.decode(b"", final=True))
            held = "\r" if block is not None and text.endswith("\r") else ""
            text = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", lone)
            sink.write(text.encode("utf-8", errors="surrogateescape"))
        sink.write(held.encode())
    return target


def _closed(stream: Iterator[bytes]) -> Iterator[bytes | None]:
    yield from stream
    yield None


def _has_newline(path: Path) -> bool:
    return any(b"\n" in block for block in blocks(path))
