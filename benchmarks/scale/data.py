"""Made-up services of every size, written once by ``marquee synth``, and a configuration that reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.sources import ROOT

FOLDER = ROOT / ".bench" / "scale"
"""Where services and nights are kept."""


@dataclass(frozen=True)
class Size:
    """How much there is."""

    users: int
    titles: int
    ratings: int


SIZES = {
    "small": Size(650, 1_200, 100_000),
    "1m": Size(6_480, 11_800, 1_000_000),
    "5m": Size(32_400, 26_400, 5_000_000),
    "25m": Size(162_000, 59_000, 25_000_000),
}
"""25m has the users and titles of MovieLens 25M; the others a part of the users, and titles by the root of it."""


@dataclass(frozen=True)
class Service:
    """A service's files."""

    ratings: Path
    titles: Path


def service(size: str, folder: Path = FOLDER) -> Service:
    """The files of a service of one of the sizes, written if they are not there."""
    place, wanted = folder / size, SIZES[size]
    if not place.is_dir():
        draft = folder / f".{size}"
        shutil.rmtree(draft, ignore_errors=True)
        numbers = {"--users": wanted.users, "--titles": wanted.titles, "--ratings": wanted.ratings}
        options = [text for name, number in numbers.items() for text in (name, str(number))]
        home = ["--home", str(folder / "homes" / "synth")]
        subprocess.run(
            [*marquee(), "synth", str(draft), *options, *home], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        draft.rename(place)
    return Service(place / "ratings.csv", place / "titles.csv")


def marquee() -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-c", "from flows.cli import main; main()"]


def configuration(size: str, path: Path) -> Path:
    """Write a configuration that reads the service and is otherwise the default one."""
    found = service(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[source]\nkind = "files"\nratings = "{found.ratings}"\ntitles = "{found.titles}"\n', encoding="utf-8"
    )
    return path
