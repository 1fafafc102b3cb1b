"""Lists on a Ray cluster: actors that hold the model score ranges of users and write each range's Parquet (Ray Data).

What travels through Ray is which users, and counts. An actor has two ranges at most on its way, so memory is that of
one block of users per actor, whatever the number of users. Parts are in the order of users, and so are their names.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import ray.exceptions

from recsys.config import ComputeConfig
from recsys.errors import MarqueeError, PublicationError
from recsys.listing import Listing, Progress
from recsys.recommend import ListCounts
from tasks.engines.ray_cluster import quiet, threads_per_worker

BLOCKS_PER_PART = 64
"""Blocks of users that make a range: as on one machine, a block holds ``[export] block_size`` users."""
_ON_THEIR_WAY = 2


def write_lists(compute: ComputeConfig, listing: Listing, folder: Path, progress: Progress) -> ListCounts:
    """Write every user's list as ``part-<range>-<number>.parquet`` in ``folder``.

    Raises:
        PublicationError: the model gave a score that is not finite.
        MarqueeError: the cluster lost its workers too often.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    quiet()
    with _saved(listing, folder) as place:
        written = _scored(compute, listing, place, folder)
        return _summed(listing, written, progress)


def _scored(compute: ComputeConfig, listing: Listing, place: Path, folder: Path) -> Iterator[dict[str, Any]]:
    size, n_users = BLOCKS_PER_PART * listing.export.block_size, len(listing.users)
    ranges = [{"first": first, "end": min(first + size, n_users)} for first in range(0, n_users, size)]
    scored = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map(
        _Writer,
        fn_constructor_args=(place, folder, threads_per_worker(compute)),
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=min(compute.workers, len(ranges)), max_tasks_in_flight_per_actor=_ON_THEIR_WAY
        ),
        num_cpus=threads_per_worker(compute),
    )
    return iter(scored.iter_rows())


def _summed(listing: Listing, written: Iterator[dict[str, Any]], progress: Progress) -> ListCounts:
    """The counts of all ranges; which titles were shown comes as bits."""
    counts = dict.fromkeys((f.name for f in fields(ListCounts)), 0)
    shown = np.zeros(len(listing.bundle.items), np.bool_)
    try:
        for part in written:
            if part["fault"]:
                raise PublicationError(part["fault"], remedy=part["remedy"])
            counts = {name: total + int(part[name]) for name, total in counts.items()}
            shown |= np.unpackbits(np.frombuffer(part["shown"], np.uint8), count=len(shown)).astype(np.bool_)
            progress(counts["users"])
    except ray.exceptions.RayError as error:
        raise MarqueeError(
            f"the lists could not be written on Ray ({type(error).__name__})",
            remedy="the same command begins them anew; what was served is untouched",
        ) from error
    return ListCounts(**{**counts, "titles_shown": int(shown.sum())})


class _Writer:
    """An actor: holds the model and everybody's histories (memory-mapped), writes one range at a time."""

    def __init__(self, place: Path, folder: Path, threads: int) -> None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
        self.listing, self.place, self.folder = Listing.load(place), place, folder

    def __call__(self, users: dict[str, Any]) -> dict[str, Any]:
        first, end = int(users["first"]), int(users["end"])
        shown = np.zeros(len(self.listing.bundle.items), np.bool_)
        draft = self.place / f"range-{first}-{uuid.uuid4().hex[:8]}"  # if this actor dies, another one begins anew
        try:
            counts = self.listing.write(draft, users=slice(first, end), shown=shown)
            size = BLOCKS_PER_PART * self.listing.export.block_size
            for number, part in enumerate(sorted(draft.glob("part-*.parquet"))):
                part.replace(self.folder / f"part-{first // size:05d}-{number:03d}.parquet")
        except PublicationError as error:
            return {**asdict(ListCounts(0, 0, 0, 0, 0)), "shown": b"", "fault": error.what, "remedy": error.remedy}
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return {**asdict(counts), "shown": np.packbits(shown).tobytes(), "fault": "", "remedy": ""}


@contextmanager
def _saved(listing: Listing, folder: Path) -> Iterator[Path]:
    """What the actors read, beside the lists while they are written."""
    place = folder.with_name(f".listing-{uuid.uuid4().hex[:8]}")
    try:
        listing.save(place)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
