"""Every layout that GroupLens has published, as a folder and as a zip."""

import zipfile
from pathlib import Path

import pytest

from recsys.artefacts import read_manifest, read_table
from recsys.config import SourceConfig
from recsys.data.ingest import Ingested, ingest
from recsys.errors import ConfigError, SourceError

CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,72998,4.5,964982800\n2,1,0.5,964982900\n",
    "movies.csv": (
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Children\n"
        '72998,"Seventh Seal, The (Sjunde inseglet, Det) (1957)",Drama\n3,Nothing,(no genres listed)\n'
    ),
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n72998,15499548,\n",
    "tags.csv": (
        "userId,movieId,tag,timestamp\n9,1,Pixar,1\n8,1,pixar,2\n9,1,funny,3\n"
        "7,1,fun | games,4\n7,72998,chess,5\n6,1,,6\n"
    ),
}
DAT = {
    "ratings.dat": "1::1::5::978824268\n1::2::3::978300760\n2::1::4::978299000\n",
    "movies.dat": "1::Toy Story (1995)::Animation|Children's\n2::Mis\xe9rables, Les (1995)::Drama\n",
    "users.dat": "1::F::1::10::48067\n",
}
FLAGS_ONE = "0|0|0|1|1|1" + "|0" * 13
FLAGS_NONE = "1" + "|0" * 18
K100 = {
    "u.data": "196\t242\t3\t881250949\n186\t1\t5\t891717742\n",
    "u.item": (
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|{FLAGS_ONE}\n"
        f'242|Kolya "quoted" (1996)|24-Jan-1997||http://x|{FLAGS_NONE}\n'
        f"543|Mis\xe9rables, Les (1995)|01-Jan-1995||http://x|{FLAGS_NONE}\n"
    ),
    "u.genre": "unknown|0\nAction|1\n",
}


def folder(path: Path, files: dict[str, str]) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_bytes(text.encode("latin-1"))
    return path


def archive(path: Path, files: dict[str, str], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in files.items():
            zipped.writestr(prefix + name, text.encode("latin-1"))
    return path


def made(path: Path, tmp_path: Path) -> tuple[list[dict], dict[str, dict], Ingested]:
    done = ingest(SourceConfig(kind="movielens", path=str(path)), tmp_path / "home")
    titles = read_table(done.dataset.file("titles.parquet")).to_pylist()
    return read_table(done.dataset.file("ratings.parquet")).to_pylist(), {t["item_id"]: t for t in titles}, done


def test_csv_releases_with_links_and_tags(tmp_path: Path):
    ratings, titles, done = made(folder(tmp_path / "ml", CSV), tmp_path)
    assert [(r["user_id"], r["item_id"], r["rating"]) for r in ratings] == [
        ("1", "1", 4.0), ("1", "72998", 4.5), ("2", "1", 0.5),
    ]  # fmt: skip
    assert titles["1"]["tags"] == ["pixar", "fun | games", "funny"]
    assert (titles["1"]["imdb_id"], titles["1"]["tmdb_id"]) == ("tt0114709", "862")
    assert (titles["72998"]["imdb_id"], titles["72998"]["tmdb_id"]) == ("tt15499548", None)
    assert (titles["72998"]["title"], titles["72998"]["year"]) == ("The Seventh Seal (Det Sjunde inseglet)", 1957)
    assert (titles["3"]["genres"], titles["3"]["year"], titles["3"]["tags"]) == ([], None, [])
    summary = read_manifest(done.dataset).summary
    assert (summary["rating_min"], summary["rating_max"], summary["has_titles"]) == (0.5, 5.0, True)
    assert "Harper" in summary["citation"]
    assert "research" in summary["licence"]


def test_at_most_twenty_tags_the_most_used_first(tmp_path: Path):
    rows = "".join(f"{user},1,tag {n:02d},1\n" for n in range(30) for user in range(n % 3 + 1))
    _, titles, _ = made(folder(tmp_path / "ml", CSV | {"tags.csv": "userId,movieId,tag,timestamp\n" + rows}), tmp_path)
    thrice, twice = [f"tag {n:02d}" for n in range(2, 30, 3)], [f"tag {n:02d}" for n in range(1, 30, 3)]
    assert titles["1"]["tags"] == [*thrice, *twice]


def test_links_and_tags_may_be_missing(tmp_path: Path):
    few = {name: CSV[name] for name in ("ratings.csv", "movies.csv")}
    _, titles, _ = made(folder(tmp_path / "ml", few), tmp_path)
    assert (titles["1"]["tags"], titles["1"]["imdb_id"]) == ([], None)


@pytest.mark.parametrize(("extra", "scale"), [({}, (1.0, 5.0)), ({"tags.dat": "1::1::fine: really::1\n"}, (0.5, 5.0))])
def test_dat_releases(tmp_path: Path, extra: dict[str, str], scale: tuple[float, float]):
    ratings, titles, done = made(folder(tmp_path / "ml", DAT | extra), tmp_path)
    assert len(ratings) == 3
    assert titles["2"]["title"] == "Les Mis\xe9rables"
    assert titles["1"]["genres"] == ["Animation", "Children's"]
    assert titles["1"]["tags"] == (["fine: really"] if extra else [])
    summary = read_manifest(done.dataset).summary
    assert (summary["rating_min"], summary["rating_max"]) == scale


def test_the_100k_release(tmp_path: Path):
    ratings, titles, done = made(folder(tmp_path / "ml", K100), tmp_path)
    assert [(r["user_id"], r["item_id"]) for r in ratings] == [("186", "1"), ("196", "242")]
    assert titles["1"]["genres"] == ["Animation", "Children's", "Comedy"]
    assert (titles["242"]["title"], titles["242"]["year"], titles["242"]["genres"]) == ('Kolya "quoted"', 1996, [])
    assert titles["543"]["title"] == "Les Mis\xe9rables"
    assert done.rejected == 0


@pytest.mark.parametrize("files", [CSV, DAT, K100], ids=["csv", "dat", "100k"])
def test_zips_and_nested_folders_are_the_same_data(tmp_path: Path, files: dict[str, str]):
    bare = made(folder(tmp_path / "bare", files), tmp_path)
    nested = made(folder(tmp_path / "outer" / "ml", files).parent, tmp_path)
    zipped = made(archive(tmp_path / "ml.zip", files, "ml/"), tmp_path)
    flat = made(archive(tmp_path / "flat.zip", files), tmp_path)
    assert {done.dataset.digest for _, _, done in (bare, nested, zipped, flat)} == {bare[2].dataset.digest}


def test_a_folder_without_a_release_says_what_is_needed(tmp_path: Path):
    empty = folder(tmp_path / "ml", {"readme.txt": "hello"})
    with pytest.raises(SourceError, match="no MovieLens release") as caught:
        made(empty, tmp_path)
    assert "readme.txt" in str(caught.value)
    with pytest.raises(SourceError, match="no such folder"):
        made(tmp_path / "nowhere", tmp_path)


def test_truncated_and_corrupt_zips_are_refused_by_name(tmp_path: Path):
    whole = archive(tmp_path / "ml.zip", CSV | {"ratings.csv": CSV["ratings.csv"] + "1,3,4,964982703\n" * 5_000})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"cut\.zip"):
        made(cut, tmp_path)
    data = bytearray(whole.read_bytes())
    data[80] ^= 0xFF
    (tmp_path / "bent.zip").write_bytes(data)
    with pytest.raises(SourceError, match=r"bent\.zip"):
        made(tmp_path / "bent.zip", tmp_path)


def test_a_name_or_a_path_is_needed(tmp_path: Path):
    with pytest.raises(ConfigError, match="needs a path or a name"):
        ingest(SourceConfig(kind="movielens"), tmp_path)
    with pytest.raises(ConfigError, match="no MovieLens release 'ml-2m'") as caught:
        ingest(SourceConfig(kind="movielens", name="ml-2m"), tmp_path)
    assert "ml-latest-small" in str(caught.value)
