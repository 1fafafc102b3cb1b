"""The sample: titles matched with films, and the ratings' two ways here."""

import hashlib
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recsys.artefacts import read_manifest, read_table
from recsys.config import SourceConfig
from recsys.data.download import Wheel
from recsys.data.film_match import Film, match, spellings
from recsys.data.ingest import ingest
from recsys.data.sources import movielens, sample
from recsys.errors import DownloadError


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("The Matrix", ["matrix"]),
        ("Matrix, The", ["matrix"]),
        ("Seventh Seal, The (Sjunde inseglet, Det)", ["seventh seal", "sjunde inseglet"]),
        ("Les Misérables", ["miserables"]),
        ("Wallace & Gromit", ["wallace and gromit"]),
        ("L'Eclisse", ["leclisse"]),
        ("Schindler's List", ["schindlers list"]),
        ("A", ["a"]),
        ("東京物語", ["東京物語"]),
        ("(...)", []),
    ],
)  # fmt: skip
def test_spellings(title: str, names: list[str]):
    assert [name for name in names if name in spellings(title)] == names


def test_the_exact_year_goes_before_its_neighbours_and_names_before_alternatives():
    films = [Film(1, "Heat", 1986), Film(2, "Heat", 1995), Film(3, "Heat", 1996), Film(4, "Die Hitze", 1972)]
    assert match(
        {"a": ("Heat", 1995), "b": ("Heat", 1997), "c": ("Heat", 1990), "d": ("Fire (Hitze, Die)", 1973)}, films
    ) == {
        "a": 2,
        "b": 3,
        "d": 4,
    }


def test_of_equal_films_the_heavier_and_of_unknown_years_only_the_unique():
    films = [Film(1, "Hamlet", 1996, 1.0), Film(2, "Hamlet", 1996, 5.0), Film(3, "Kolya", 1996)]
    assert match({"a": ("Hamlet", 1996), "b": ("Hamlet", None), "c": ("Kolya", None)}, films) == {"a": 2, "c": 3}


def test_a_part_of_a_name_serves_where_it_is_unique_in_its_year():
    films = [
        Film(1, "Star Wars: Episode VI – Return of the Jedi", 1983),
        Film(2, "Farinelli", 1994),
        Film(3, "Up: One", 1995),
        Film(4, "Twins: First", 1995),
        Film(5, "Twins: Second", 1995),
    ]
    wanted = {
        "a": ("Return of the Jedi", 1983),
        "b": ("Farinelli: il castrato", 1994),
        "c": ("One", 1995),
        "d": ("Return of the Jedi", 1984),
        "e": ("Twins: Third", 1995),
    }
    assert match(wanted, films) == {"a": 1, "b": 2}


RATINGS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1\t5\t881250949\n2\t2\t3\t881250950\n"
ITEMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tToy Story\t1995\tAnimation Comedy\n"
    "2\tGodfather, The\t1972\tCrime\n267\tunkonwn\tunkonwn\tunknown\n"
)


def wheels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small wheels laid out as the real ones, pinned in their place."""
    folder.mkdir(parents=True)
    database = folder / "films.db"
    connection = sqlite3.connect(database)
    connection.execute(
        'CREATE TABLE omdb (ID INT, imdbID TEXT, Title TEXT, Year INT, Genre TEXT, Director TEXT, "Cast" TEXT)'
    )
    connection.executemany(
        "INSERT INTO omdb VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (1, "tt0114709", "Toy Story", 1995, "Animation, Adventure", "John Lasseter", "Annie Potts, Tom Hanks"),
            (2, "tt0068646", "The Godfather", 1972, "Crime, Drama", "Francis Ford Coppola", ""),
            (3, "tt0109830", "Forrest Gump", 1994, "Drama", "Robert Zemeckis", "Tom Hanks"),
        ],
    )
    connection.commit()
    connection.close()
    for name, pinned, members in (
        ("RATINGS_WHEEL", sample.RATINGS_WHEEL, {"ml-100k.inter": RATINGS, "ml-100k.item": ITEMS}),
        ("FILMS_WHEEL", sample.FILMS_WHEEL, {}),
    ):
        path = folder / pinned.file
        with zipfile.ZipFile(path, "w") as zipped:
            for member, text in members.items():
                zipped.writestr(f"recbole/dataset_example/ml-100k/{member}", text)
            if not members:
                zipped.write(database, "bokeh_sampledata/_data/movies.db")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(sample, name, Wheel(pinned.name, pinned.version, pinned.file, digest))
    database.unlink()


def test_directors_cast_and_genres_are_joined_and_the_terms_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheels(tmp_path / "downloads", monkeypatch)
    said: list[str] = []
    done = ingest(SourceConfig(), tmp_path, note=said.append)
    titles = {row["item_id"]: row for row in read_table(done.dataset.file("titles.parquet")).to_pylist()}
    assert titles["1"]["directors"] == ["John Lasseter"]
    assert titles["1"]["cast"] == ["Tom Hanks", "Annie Potts"]  # in two films, and in one
    assert titles["1"]["genres"] == ["Animation", "Comedy", "Adventure"]
    assert titles["1"]["imdb_id"] == "tt0114709"
    assert (titles["2"]["title"], titles["2"]["directors"], titles["2"]["cast"]) == (
        "The Godfather", ["Francis Ford Coppola"], [],
    )  # fmt: skip
    assert (titles["267"]["year"], titles["267"]["genres"], titles["267"]["directors"]) == (None, [], [])
    summary = read_manifest(done.dataset).summary
    assert "CC0" in summary["licence"]
    assert "Harper" in summary["citation"]
    assert len(summary["provenance"]["checksums"]) == 2
    assert any("Please cite" in text for text in said)
    assert "directors and cast found for 2 of 3 titles" in said
    assert ingest(SourceConfig(), tmp_path).reused


def test_from_grouplens_the_ratings_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheels(tmp_path / "a" / "downloads", monkeypatch)
    other = tmp_path / "b" / "downloads"
    other.mkdir(parents=True)
    (other / sample.FILMS_WHEEL.file).write_bytes((tmp_path / "a" / "downloads" / sample.FILMS_WHEEL.file).read_bytes())
    flags = "0|0|0|1|0|1" + "|0" * 13
    with zipfile.ZipFile(other / "ml-100k.zip", "w") as zipped:
        zipped.writestr("ml-100k/u.data", "2\t2\t3\t881250950\n1\t1\t5\t881250949\n")
        zipped.writestr("ml-100k/u.item", f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1"))
    one, two = (ingest(SourceConfig(), tmp_path / name) for name in ("a", "b"))
    files = [read_manifest(done.dataset).files["ratings.parquet"].sha256 for done in (one, two)]
    assert files[0] == files[1]
    title = read_table(two.dataset.file("titles.parquet")).to_pylist()[0]
    assert (title["title"], title["genres"], title["directors"]) == (
        "Toy Story", ["Animation", "Comedy", "Adventure"], ["John Lasseter"],
    )  # fmt: skip


def test_without_any_way_out_it_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheels(tmp_path / "downloads", monkeypatch)
    (tmp_path / "downloads" / sample.RATINGS_WHEEL.file).unlink()
    monkeypatch.setattr(movielens, "BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(DownloadError, match="neither from GroupLens nor") as caught:
        ingest(SourceConfig(), tmp_path, note=said.append)
    assert str(tmp_path / "downloads") in str(caught.value)
    assert any("GroupLens gave nothing" in text for text in said)


@pytest.fixture(scope="module")
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "downloads").mkdir()
    for wheel in (sample.RATINGS_WHEEL, sample.FILMS_WHEEL):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(home / "downloads")]
        done = subprocess.run(
            [*command, f"{wheel.name}=={wheel.version}"], capture_output=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"pip cannot bring {wheel.name}: {done.stderr.decode()[-200:]}")
    return home


def test_the_real_sample(real_home: Path):
    done = ingest(SourceConfig(), real_home)
    assert read_manifest(done.dataset).rows == {"ratings": 100_000, "titles": 1_682, "rejects": 0}
    ratings = read_table(done.dataset.file("ratings.parquet")).to_pandas()
    assert (ratings["user_id"].nunique(), ratings["item_id"].nunique()) == (943, 1_682)
    titles = read_table(done.dataset.file("titles.parquet")).to_pandas().set_index("item_id")
    found = titles["directors"].str.len() > 0
    assert found.mean() > 0.8
    assert ratings["item_id"].map(found).mean() > 0.9
    assert list(titles.loc["172", "directors"]) == ["Irvin Kershner"]  # The Empire Strikes Back
    assert list(titles.loc["127", "directors"]) == ["Francis Ford Coppola"]  # The Godfather
