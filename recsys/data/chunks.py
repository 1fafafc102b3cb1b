"""Content-defined chunks of a text file: cut at line ends that the bytes before them choose.

So a line that is put in, taken out or changed changes its own chunk and no other, wherever the rest moves to. A chunk
whose SHA-256 was seen before holds the same lines. Knows nothing of what the lines mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.histories import Longs

SEGMENT = 8 << 20
"""Bytes that are worked on at a time."""
LEAST, MOST = 2 << 10, 256 << 10
"""Bytes of a chunk, nearly: a cut may come early where a segment ends, and late where a line is long."""
_ONE_LINE_IN_512 = np.uint64(64 - 9)
_ENDLESS = 64 << 20


class EndlessLineError(Exception):
    """There is hardly a line end in the file."""


def segments(path: Path, start: int = 0) -> Iterator[bytes]:
    """A file's bytes from ``start`` on, in parts that end where a chunk ends.

    Raises:
        EndlessLineError: 64 MB go by without a line end.
    """
    held = b""
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(SEGMENT):
            data = held + block if held else block
            end = _last_end(data)
            if end:
                yield data[:end]
            held = data[end:]
            if len(held) > _ENDLESS:
                raise EndlessLineError(str(path))
    if held:
        yield held


def cut(data: bytes) -> tuple[Longs, Longs]:
    """Where the chunks of a segment end, and how many lines each has."""
    newlines = _newlines(data)
    chosen = newlines[_chosen(data, newlines)]
    ends: list[int] = []
    start = 0
    for end in [*chosen.tolist(), len(data)]:
        while end - start > 2 * MOST:  # nothing was chosen for long: cut by length
            place = int(np.searchsorted(newlines, start + MOST))
            if place == len(newlines) or newlines[place] >= end:
                break
            start = int(newlines[place])
            ends.append(start)
        if end - start >= LEAST or end == len(data):
            ends.append(end)
            start = end
    cuts = np.unique(np.asarray(ends, np.int64))
    upto = np.searchsorted(newlines, cuts, side="right")
    upto[-1] += data[-1:] != b"\n"
    return cuts, np.diff(upto, prepend=0)


def digests(data: bytes, ends: Longs) -> list[bytes]:
    """The SHA-256 of every chunk."""
    view = memoryview(data)
    starts = [0, *ends[:-1].tolist()]
    return [hashlib.sha256(view[start:end]).digest() for start, end in zip(starts, ends.tolist(), strict=True)]


def _newlines(data: bytes) -> Longs:
    """The places behind the line ends."""
    return np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1


def _chosen(data: bytes, newlines: Longs) -> NDArray[np.bool_]:
    """Which line ends the sixteen bytes before them choose: about one in 512."""
    result = np.zeros(len(newlines), np.bool_)
    late = newlines >= 16
    if len(data) >= 16 and late.any():
        words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        at = newlines[late]
        mixed = (words[at - 8] ^ (words[at - 16] * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
        result[late] = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB) >> _ONE_LINE_IN_512 == 0
    return result


def _last_end(data: bytes) -> int:
    """The last place at which a segment may end; 0 where there is none."""
    start = max(0, len(data) - MOST)
    tail = data[start:]
    newlines = _newlines(tail)
    chosen = newlines[_chosen(tail, newlines)]
    return start + int(chosen[-1]) if len(chosen) else data.rfind(b"\n") + 1
