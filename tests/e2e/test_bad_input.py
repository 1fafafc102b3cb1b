"""Bad input: the right exit code, one paragraph that says what, where and how to mend it; what is served stays."""

import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOOD = [
    (f"u{u}", f"i{(u * 7 + n) % 30}", 1 + (u + n) % 5, 1_700_000_000 + 60 * n) for u in range(40) for n in range(20)
]
HEADER = "userId,movieId,rating,timestamp\n"
SERVED = '{"what": "was served before"}\n'


def csv(rows, header=HEADER) -> str:
    return header + "".join(",".join(map(str, row)) + "\n" for row in rows)


def empty(folder: Path) -> Path:
    return _text(folder / "ratings.csv", "")


def header_only(folder: Path) -> Path:
    return _text(folder / "ratings.csv", HEADER)


def missing_column(folder: Path) -> Path:
    return _text(folder / "ratings.csv", csv(GOOD, "userId,film,rating,timestamp\n").replace("film", "whatever"))


def malformed_line(folder: Path) -> Path:
    return _text(folder / "ratings.csv", csv(GOOD) + "u1,i3,5\n")


def rating_of_7(folder: Path) -> Path:
    return _text(folder / "ratings.csv", csv([*GOOD, ("u1", "i29", 7, 1_700_000_000)]))


def rating_of_nan(folder: Path) -> Path:
    return _text(folder / "ratings.csv", csv([*GOOD, ("u1", "i29", "NaN", 1_700_000_000)]))


def truncated_parquet(folder: Path) -> Path:
    path = folder / "ratings.parquet"
    user, item, rating, time = zip(*GOOD, strict=True)
    pq.write_table(pa.table({"user_id": user, "item_id": item, "rating": rating, "timestamp": time}), path)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def truncated_zip(folder: Path) -> Path:
    path = folder / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-latest-small/ratings.csv", csv(GOOD))
        archive.writestr("ml-latest-small/movies.csv", "movieId,title,genres\n1,Heat (1995),Crime\n")
    path.write_bytes(path.read_bytes()[:-60])
    return path


def no_such_file(folder: Path) -> Path:
    return folder / "nothing.csv"


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def told_once(stderr: str) -> str:
    """The one paragraph; fails where there is more, or a traceback."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert "Traceback" not in stderr
    assert len(lines) == 1, stderr
    return lines[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home that serves something."""
    home = tmp_path_factory.mktemp("bad") / "home"
    pointer = home / "exports" / "top_n" / "CURRENT"
    pointer.parent.mkdir(parents=True)
    pointer.write_text(SERVED)
    return home


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, r"ratings\.csv.*empty"),
        (header_only, r"ratings\.csv.*(no rows|no ratings|empty|header)"),
        (missing_column, r"ratings\.csv.*item_id.*\[source\.columns\]"),
        (malformed_line, r"ratings\.csv.*line 802"),
        (rating_of_7, r"ratings\.csv.*line 802.*7"),
        (rating_of_nan, r"ratings\.csv.*line 802.*(NaN|nan|not a number)"),
        (truncated_parquet, r"ratings\.parquet"),
        (truncated_zip, r"ml\.zip"),
        (no_such_file, r"nothing\.csv"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_bad_source(make, says, tmp_path, home, marquee):
    path = make(tmp_path)
    pointer = home / "exports" / "top_n" / "CURRENT"
    kind = {"MARQUEE_SOURCE__KIND": "movielens", "MARQUEE_SOURCE__PATH": str(path)}
    files = {"MARQUEE_SOURCE__KIND": "files", "MARQUEE_SOURCE__RATINGS": str(path)}
    done = marquee(home, "nightly", **(kind if path.suffix == ".zip" else files))
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(says, told_once(done.stderr)), done.stderr
    assert pointer.read_text() == SERVED


def test_unknown_configuration_key_names_the_nearest(tmp_path, marquee):
    file = _text(tmp_path / "marquee.toml", "[export]\nlenght = 5\n")
    done = marquee(tmp_path / "home", "nightly", "--config", str(file))
    assert done.returncode == 2
    assert re.search(r"lenght", told_once(done.stderr))
    typo = marquee(tmp_path / "home", "nightly", MARQUEE_EXPORT__REGIN="DE")
    assert typo.returncode == 2
    assert "region" in told_once(typo.stderr)


def test_awkward_ids_pass_through_unchanged(tmp_path, marquee):
    awkward = {
        "u0": "007",
        "u1": "7",
        "u2": "b3e1f0d2-5a55-4a6e-9d0c-1f6a3f6f0a11",
        "u3": str(2**63 + 5),
        "u4": "电影 迷",
    }
    path = _text(tmp_path / "ratings.csv", csv([(awkward.get(u, u), *rest) for u, *rest in GOOD]))
    home = tmp_path / "home"
    done = marquee(home, "ingest", MARQUEE_SOURCE__KIND="files", MARQUEE_SOURCE__RATINGS=str(path))
    assert done.returncode == 0, done.stderr
    (ratings,) = (home / "artefacts" / "dataset").glob("*/ratings.parquet")
    users = set(pq.read_table(ratings)["user_id"].to_pylist())
    assert set(awkward.values()) <= users
    assert len(users) == 40
