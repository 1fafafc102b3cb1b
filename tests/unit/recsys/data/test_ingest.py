"""Files of every shape, sound and damaged, through the real reader."""

import gzip
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.artefacts import ArtefactStore, read_manifest, read_table, verify
from recsys.config import SourceConfig
from recsys.data.ingest import Ingested, ingest
from recsys.errors import ConfigError, MarqueeError, SourceError

DATA = Path(os.environ.get("MARQUEE_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))
HEADER = "userId,movieId,rating,timestamp\n"
ROWS = "7,10,4.0,964982703\n7,11,3.5,964982800\n8,10,5.0,964982900\n"


class Bench:
    """A folder with raw files, and what their ingestion gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        (folder / "raw").mkdir()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / "raw" / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def ingest(self, home: str = "home", **source) -> Ingested:
        config = SourceConfig(kind=source.pop("kind", "files"), **source)
        return ingest(config, self.folder / home, note=self.notes.append)

    def ratings(self, content: str | bytes, name: str = "ratings.csv", **source) -> list[tuple]:
        done = self.ingest(ratings=str(self.write(name, content)), **source)
        return [tuple(row.values()) for row in table(done, "ratings")]

    def rejects(self, content: str | bytes, name: str = "ratings.csv", **source) -> list[dict]:
        return table(self.ingest(ratings=str(self.write(name, content)), **source), "rejects")

    def titles(self, content: str | bytes, name: str = "titles.csv", **source) -> list[dict]:
        done = self.ingest(
            ratings=str(self.write("ratings.csv", HEADER + ROWS)), titles=str(self.write(name, content)), **source
        )
        return table(done, "titles")

    def fails(self, content: str | bytes, name: str = "ratings.csv", **source) -> str:
        with pytest.raises(SourceError) as caught:
            self.ratings(content, name, **source)
        assert caught.value.exit_code == 2
        return str(caught.value)


def table(done: Ingested, name: str) -> list[dict]:
    return read_table(done.dataset.file(f"{name}.parquet")).to_pylist()


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_ratings_are_typed_and_sorted_by_user_time_and_title(bench: Bench):
    text = HEADER + "b,2,1,30\na,9,5,20\na,1,4.5,20\na,3,2,10\n"
    assert bench.ratings(text) == [
        ("a", "3", 2.0, at(10)),
        ("a", "1", 4.5, at(20)),
        ("a", "9", 5.0, at(20)),
        ("b", "2", 1.0, at(30)),
    ]


def test_the_dataset_has_the_schemas_the_manifest_and_page_checksums(bench: Bench):
    done = bench.ingest(ratings=str(bench.write("r.csv", HEADER + ROWS)))
    assert read_table(done.dataset.file("ratings.parquet")).schema.equals(columns.RATINGS)
    assert read_table(done.dataset.file("titles.parquet")).schema.equals(columns.TITLES)
    assert read_table(done.dataset.file("rejects.parquet")).schema.equals(columns.QUARANTINE)
    manifest = verify(done.dataset)
    assert manifest.rows == {"ratings": 3, "titles": 0, "rejects": 0}
    assert manifest.configuration == {
        name: manifest.files[f"{name}.parquet"].sha256 for name in ("ratings", "titles", "rejects")
    }
    assert (manifest.summary["has_titles"], manifest.summary["ordered"], manifest.summary["implicit"]) == (
        False,
        True,
        False,
    )
    assert manifest.summary["files"][0]["bytes"] == len(HEADER + ROWS)
    meta = pq.ParquetFile(done.dataset.file("ratings.parquet")).metadata
    assert meta.row_group(0).column(0).compression == "ZSTD"
    damaged = bytearray(done.dataset.file("ratings.parquet").read_bytes())
    damaged[40] ^= 1
    done.dataset.file("ratings.parquet").write_bytes(damaged)
    with pytest.raises(MarqueeError, match=r"ratings\.parquet"):
        read_table(done.dataset.file("ratings.parquet"))


def test_an_unchanged_source_is_not_read_again_and_a_changed_one_is(bench: Bench):
    path = bench.write("r.csv", HEADER + ROWS)
    first = bench.ingest(ratings=str(path))
    again = bench.ingest(ratings=str(path))
    assert (first.reused, again.reused, again.dataset) == (False, True, first.dataset)
    path.write_text(HEADER + ROWS + "9,10,1,964983000\n")
    changed = bench.ingest(ratings=str(path))
    assert not changed.reused
    assert changed.dataset != first.dataset


def test_a_dataset_that_was_removed_is_made_again(bench: Bench):
    path = bench.write("r.csv", HEADER + ROWS)
    first = bench.ingest(ratings=str(path))
    first.dataset.file("manifest.json").unlink()
    again = bench.ingest(ratings=str(path))
    assert not again.reused
    assert verify(again.dataset).rows["ratings"] == 3


def test_other_names_order_and_layouts_of_the_same_ratings_are_the_same_dataset(bench: Bench):
    frame = pd.DataFrame(
        {
            "userId": [7, 7, 8],
            "movieId": [10, 11, 10],
            "rating": [4.0, 3.5, 5],
            "timestamp": [964982703, 964982800, 964982900],
        }
    )
    frame.to_csv(bench.folder / "raw" / "a.csv", index=False)
    other = frame.sample(frac=1, random_state=3)[["rating", "timestamp", "movieId", "userId"]]
    other.columns = ["stars given", "when", "film", "viewer"]
    other.to_parquet(bench.folder / "raw" / "b.parquet", index=False)
    other.to_csv(bench.folder / "raw" / "c.tsv.gz", index=False, sep="\t")
    mapping = {"user_id": "viewer", "item_id": "film", "rating": "stars given", "timestamp": "when"}
    made = [
        bench.ingest(ratings=str(bench.folder / "raw" / name), columns=names)
        for name, names in (("a.csv", {}), ("b.parquet", mapping), ("c.tsv.gz", mapping))
    ]
    assert len({done.dataset.digest for done in made}) == 1
    assert len({done.source.digest for done in made}) == 3


def test_movielens_and_the_same_data_as_files_give_the_same_ratings(bench: Bench):
    release = DATA / "ml-latest-small"
    if not release.is_dir():
        pytest.skip("MovieLens latest-small is not there: set MARQUEE_TEST_DATA")
    frame = pd.read_csv(release / "ratings.csv").sample(frac=1, random_state=1)
    frame.columns = ["viewer", "film", "stars", "seen_at"]
    frame.to_parquet(bench.folder / "raw" / "r.parquet", index=False)
    frame.iloc[:50_000].to_csv(bench.folder / "raw" / "part-0.csv.gz", index=False)
    frame.iloc[50_000:].to_csv(bench.folder / "raw" / "part-1.csv.gz", index=False)
    mapping = {"user_id": "viewer", "item_id": "film", "rating": "stars", "timestamp": "seen_at"}
    made = [
        bench.ingest(kind="movielens", path=str(release)),
        bench.ingest(ratings=str(bench.folder / "raw" / "r.parquet"), columns=mapping),
        bench.ingest(ratings=str(bench.folder / "raw" / "part-*.csv.gz"), columns=mapping),
    ]
    digests = {read_manifest(done.dataset).files["ratings.parquet"].sha256 for done in made}
    assert len(digests) == 1
    assert [done.rows for done in made] == [100_836] * 3
    assert made[1].dataset == made[2].dataset


# Ids, encodings, line ends


@pytest.mark.parametrize(
    "user",
    [
        "007",
        "9223372036854775809",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        " spaced id ",
        "Zoë-東京",
        "None",
        "NA",
        "null",
        "nan",
    ],
)
def test_ids_come_through_as_they_were_written(bench: Bench, user: str):
    assert bench.ratings(f"{HEADER}{user},0010,4,964982703\n")[0][:2] == (user, "0010")
    assert bench.ratings(f"user_id\titem_id\trating\n{user}\t0010\t4\n", "r.tsv")[0][:2] == (user, "0010")
    frame = pd.DataFrame({"user_id": [user], "item_id": ["0010"], "rating": [4.0]})
    frame.to_parquet(bench.folder / "raw" / "r.parquet")
    assert table(bench.ingest(ratings=str(bench.folder / "raw" / "r.parquet")), "ratings")[0]["user_id"] == user


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x00"), min_size=1, max_size=12),
        min_size=1, max_size=20, unique=True,
    )
)  # fmt: skip
def test_any_text_is_an_id(tmp_path_factory: pytest.TempPathFactory, ids: list[str]):
    bench = Bench(tmp_path_factory.mktemp("ids"))
    frame = pd.DataFrame({"user_id": ids, "item_id": ids[::-1], "rating": 3.0})
    frame.to_csv(bench.folder / "raw" / "r.csv", index=False, quoting=1)
    done = bench.ingest(ratings=str(bench.folder / "raw" / "r.csv"))
    assert sorted((row["user_id"], row["item_id"]) for row in table(done, "ratings")) == sorted(
        zip(ids, ids[::-1], strict=True)
    )


def test_whole_floats_are_the_integers_that_pandas_made_them_of(bench: Bench):
    pd.DataFrame({"user_id": [7.0, None], "item_id": [10, 11], "rating": [4, 5]}).to_parquet(
        bench.folder / "raw/r.parquet"
    )
    done = bench.ingest(ratings=str(bench.folder / "raw" / "r.parquet"))
    assert [row["user_id"] for row in table(done, "ratings")] == ["7"]
    assert [(row["column"], row["reason"]) for row in table(done, "rejects")] == [("user_id", "the id is empty")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_every_kind(bench: Bench, end: str, last: bool):
    text = (HEADER + ROWS).replace("\n", end)
    assert len(bench.ratings(text if last else text.removesuffix(end))) == 3


def test_mixed_line_ends_and_empty_lines(bench: Bench):
    assert len(bench.ratings(HEADER + "1,2,3,4\r\n\n5,6,3,8\n\r\n9,1,3,4\r\n\n")) == 3


def test_a_byte_order_mark_is_not_part_of_a_name(bench: Bench):
    assert len(bench.ratings(b"\xef\xbb\xbf" + (HEADER + ROWS).encode())) == 3
    assert len(bench.ratings((HEADER + ROWS).encode("utf-16"), "wide.csv")) == 3


def test_latin_1_is_read_as_such_and_said(bench: Bench):
    text = "movieId,title\n1,Am\xe9lie\n2,Les Mis\xe9rables\n"
    assert [row["title"] for row in bench.titles(text.encode("latin-1"))] == ["Am\xe9lie", "Les Mis\xe9rables"]
    assert "titles.csv: read as Latin-1" in bench.notes


def test_unicode_forms_are_left_as_they_are(bench: Bench):
    composed, apart = "Am\u00e9lie", "Ame\u0301lie"
    rows = bench.titles(f"movieId,title\n1,{composed}\n2,{apart}\n")
    assert [row["title"] for row in rows] == [composed, apart]


def test_a_damaged_line_of_utf_8_is_rejected_alone(bench: Bench):
    text = (HEADER + "Zoë,1,4,100\nJosé,1,4,100\n").encode() + b"br\xffken,1,4,100\n"
    done = bench.ingest(ratings=str(bench.write("r.csv", text)))
    assert [row["user_id"] for row in table(done, "ratings")] == ["José", "Zoë"]
    assert [(row["line"], row["reason"]) for row in table(done, "rejects")] == [(4, "the line is not UTF-8")]


def test_nul_bytes_come_through(bench: Bench):
    assert bench.ratings(HEADER + "a\x00b,1,4,100\n")[0][0] == "a\x00b"


def test_names_with_pattern_letters_and_quotes_are_names(bench: Bench):
    assert len(bench.ratings(HEADER + ROWS, "it's [1] *.csv")) == 3


# Compression, truncation


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_packed_files_are_read_and_cut_off_ones_refused_whole(bench: Bench, codec: str):
    text = (HEADER + "".join(f"{n},{n % 97},4.5,{964982703 + n}\n" for n in range(20_000))).encode()
    name = {"gzip": "r.csv.gz", "zstd": "r.csv.zst"}[codec]
    with pa.CompressedOutputStream(str(bench.folder / "raw" / name), codec) as stream:
        stream.write(text)
    whole = (bench.folder / "raw" / name).read_bytes()
    assert len(bench.ratings(whole, name)) == 20_000
    for cut in (len(whole) // 2, len(whole) - 3):
        assert name in bench.fails(whole[:cut], f"cut-{cut}-{name}")


def test_a_file_that_only_claims_to_be_packed_is_refused(bench: Bench):
    assert "cannot be unpacked" in bench.fails(HEADER + ROWS, "r.csv.gz")


def test_truncated_parquet_is_refused_and_named(bench: Bench):
    pd.DataFrame({"user_id": range(9999), "item_id": range(9999), "rating": 4.0}).to_parquet(
        bench.folder / "raw/a.parquet"
    )
    whole = (bench.folder / "raw" / "a.parquet").read_bytes()
    assert "cut.parquet" in bench.fails(whole[: len(whole) // 2], "cut.parquet")
    assert "text.parquet" in bench.fails("not parquet at all", "text.parquet")


def test_a_flipped_byte_in_parquet_with_page_checksums_is_refused(bench: Bench):
    path = bench.folder / "raw" / "a.parquet"
    frame = pa.table(
        {"user_id": pa.array(range(5000)), "item_id": pa.array(range(5000)), "rating": pa.array([4.0] * 5000)}
    )
    pq.write_table(frame, path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    assert "flipped.parquet" in bench.fails(bytes(data), "flipped.parquet")


# Rows that cannot be read


def test_malformed_lines_become_rejects_with_file_line_value_and_reason(bench: Bench):
    text = (
        HEADER + "1,2,3,100\n\nbad line\n1,3,4,5,6\n2,2,abc,100\n2,3,4,never\n,3,4,100\n3,,4,100\n3,1,,100\n4,1,4,100\n"
    )
    done = bench.ingest(ratings=str(bench.write("r.csv", text)))
    assert [row["user_id"] for row in table(done, "ratings")] == ["1", "4"]
    found = {row["line"]: (row["file"], row["column"], row["value"], row["reason"]) for row in table(done, "rejects")}
    assert found == {
        4: ("r.csv", None, "bad line", "the line has 1 fields, not 4"),
        5: ("r.csv", None, "1,3,4,5,6", "the line has 5 fields, not 4"),
        6: ("r.csv", "rating", "abc", "not a number"),
        7: ("r.csv", "timestamp", "never", "not a time: neither a number nor an ISO 8601 date"),
        8: ("r.csv", "user_id", None, "the id is empty"),
        9: ("r.csv", "item_id", None, "the id is empty"),
        10: ("r.csv", "rating", None, "the rating is missing"),
    }
    assert done.rejected == 7


def test_every_line_is_a_row_or_a_reject_in_a_large_file(bench: Bench):
    lines = [f"{n},{n % 999},4.5,{964982703 + n}" for n in range(200_000)]
    for n in (0, 1_234, 99_999, 199_999):
        lines[n] = f"torn {n}"
    done = bench.ingest(ratings=str(bench.write("r.csv", HEADER + "\n".join(lines) + "\n")))
    assert (done.rows, done.rejected) == (199_996, 4)
    assert [row["line"] for row in table(done, "rejects")] == [2, 1_236, 100_001, 200_001]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.one_of(
            st.integers(0, 99).map(lambda n: f"{n}D7D4.5D964982703".encode()),
            st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")),
            st.text("0\"'aD\\;: ", max_size=9).map(str.encode),
        ),
        max_size=30,
    ),
    name=st.sampled_from(["r.csv", "r.tsv"]),
)
def test_whatever_a_file_holds_no_line_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], name: str):
    bench = Bench(tmp_path_factory.mktemp("fuzz"))
    delimiter = {"r.csv": b",", "r.tsv": b"\t"}[name]
    good = [b"u%d,i,4,964982703".replace(b",", delimiter) % n for n in range(40)]
    rows = [HEADER.strip().encode().replace(b",", delimiter), *good, *(line.replace(b"D", delimiter) for line in lines)]
    done = bench.ingest(ratings=str(bench.write(name, b"\n".join(rows) + b"\n")))
    kept = {row["user_id"] for row in table(done, "ratings")}
    assert {f"u{n}" for n in range(40)} <= kept
    if name == "r.tsv" or not any(b'"' in line for line in lines):
        filled = sum(1 for line in rows if line)
        assert done.rows + done.rejected == filled - 1


def test_a_stray_quote_swallows_no_row_of_a_tsv(bench: Bench):
    text = 'user_id\titem_id\trating\na"b\t1\t4\n"c\t2\t5\nd\t3\t4\ne"\t4\t3\n'
    done = bench.ingest(ratings=str(bench.write("r.tsv", text)))
    assert [row["user_id"] for row in table(done, "ratings")] == ['"c', 'a"b', "d", 'e"']
    assert done.rejected == 0


def test_a_stray_quote_in_a_csv_costs_its_own_line_only(bench: Bench):
    rows = [f'"{n}",{n % 7},4,{100 + n}' for n in range(500)]
    rows[100] = '"100,2,4,200'
    rows[300] = '300",2,4,200'
    done = bench.ingest(ratings=str(bench.write("r.csv", HEADER + "\n".join(rows) + "\n")))
    assert done.rows + done.rejected == 500
    assert done.rows >= 498
    assert {row["line"] for row in table(done, "rejects")} == {102}
    assert "7" in {row["user_id"] for row in table(done, "ratings")}


def test_quoted_line_breaks_and_commas_are_part_of_a_field(bench: Bench):
    rows = bench.titles('movieId,title,plot\n1,"Crouching, Hidden","one\ntwo, ""three"""\n2,Plain,x\n')
    assert [(row["title"], row["plot"]) for row in rows] == [("Crouching, Hidden", 'one\ntwo, "three"'), ("Plain", "x")]


def test_not_a_number_is_a_number_for_validation_to_judge(bench: Bench):
    rows = bench.ratings(HEADER + "1,1,NaN,100\n1,2,7,101\n1,3,-1,102\n1,4,0,103\n1,5,inf,104\n")
    assert [str(row[2]) for row in rows] == ["nan", "7.0", "-1.0", "0.0", "inf"]


def test_duplicates_stay(bench: Bench):
    assert len(bench.ratings(HEADER + "1,1,4,100\n1,1,4,100\n1,1,2,90\n")) == 3


def test_no_readable_row_is_a_fault_of_the_source(bench: Bench):
    assert "r.csv line 2" in bench.fails(HEADER + "1,2,x,100\n2,2,y,100\n", "r.csv")
    assert "line 2: the line has 1 fields" in bench.fails(HEADER + "nothing\nat all\n", "s.csv")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(bench: Bench, text: str):
    assert "r.csv" in bench.fails(text, "r.csv")


def test_a_header_alone_is_refused(bench: Bench):
    assert "no rows under the header" in bench.fails(HEADER)
    pd.DataFrame({"user_id": [], "item_id": [], "rating": []}).to_parquet(bench.folder / "raw" / "e.parquet")
    with pytest.raises(SourceError, match="no rows"):
        bench.ingest(ratings=str(bench.folder / "raw" / "e.parquet"))


# Columns


def test_a_missing_column_names_what_is_there_what_was_wanted_and_how_to_map_it(bench: Bench):
    said = bench.fails("viewer,movieId,rating\n1,2,3\n")
    for part in ("ratings.csv", "'user_id'", "'viewer', 'movieId', 'rating'", "[source.columns]", "user_id ="):
        assert part in said


def test_a_mapped_column_that_is_not_there_names_the_nearest(bench: Bench):
    said = bench.fails("viewer,movieId,rating\n1,2,3\n", columns={"user_id": "viewr"})
    assert 'user_id = "viewer"' in said


def test_a_mapping_of_an_unknown_column_of_ours_is_refused(bench: Bench):
    path = bench.write("r.csv", HEADER + ROWS)
    with pytest.raises(ConfigError, match="erhaps 'user_id' is meant"):
        bench.ingest(ratings=str(path), columns={"userid": "userId"})


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("movielens.csv", "userId,movieId,rating,timestamp"),
        ("ml.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        ("lenskit.csv", "user,item,rating,timestamp"),
        ("lenskit.tsv", "user_id\titem_id\trating\ttimestamp"),
        ("rectools.csv", "user_id,item_id,weight,datetime"),
        ("german.csv", "User ID;Item ID;Score;Date"),
        ("doubled.dat", "user_id::item_id::rating::timestamp"),
        ("extra.csv", "session,user_id,item_id,junk,rating,timestamp"),
    ],
)
def test_the_names_and_layouts_of_others_are_known(bench: Bench, name: str, header: str):
    delimiter = next(d for d in ("\t", "::", ";", ",") if d in header)
    width = header.count(delimiter) + 1
    row = ["1", "2", "4.5", "964982703"] if width == 4 else ["s", "1", "2", "x", "4.5", "964982703"]
    assert bench.ratings(f"{header}\n{delimiter.join(row)}\n", name) == [("1", "2", 4.5, at(964982703))]


def test_without_ratings_every_row_is_an_interaction(bench: Bench):
    done = bench.ingest(ratings=str(bench.write("r.csv", "user,item,timestamp\n1,2,100\n1,3,200\n")))
    assert [row["rating"] for row in table(done, "ratings")] == [None, None]
    assert read_manifest(done.dataset).summary["implicit"] is True
    done = bench.ingest(ratings=str(bench.write("e.csv", "user,item,rating\n1,2,\n1,3,\n")))
    assert (done.rows, done.rejected) == (2, 0)


def test_a_table_that_needs_its_rating_says_so(bench: Bench):
    bench.write("ratings.csv", "userId,movieId,timestamp\n1,2,100\n")
    bench.write("movies.csv", "movieId,title,genres\n2,Jumanji (1995),Adventure\n")
    with pytest.raises(SourceError, match="no column 'rating'"):
        bench.ingest(kind="movielens", path=str(bench.folder / "raw"))


# Times


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("964982703", "seconds"),
        ("964982703.0", "seconds"),
        ("9.64982703e8", "seconds"),
        ("964982703000", "milliseconds"),
        ("964982703000000", "microseconds"),
        ("964982703000000000", "nanoseconds"),
        ("2000-07-30 18:45:03", None),
        ("2000-07-30T18:45:03Z", None),
        ("2000-07-30T20:45:03+02:00", None),
    ],
)
def test_times_in_any_unit_are_the_same_instant(bench: Bench, text: str, unit: str | None):
    done = bench.ingest(ratings=str(bench.write("r.csv", f"{HEADER}1,2,4,{text}\n1,3,4,{text}\n")))
    assert {row["timestamp"] for row in table(done, "ratings")} == {at(964982703)}
    assert read_manifest(done.dataset).summary["timestamp_unit"] == unit
    assert any(f"timestamps are in {unit}" in note for note in bench.notes) == (unit not in (None, "seconds"))


@pytest.mark.parametrize(
    "kind", ["datetime64[s]", "datetime64[ms]", "datetime64[us]", "datetime64[ns]", "datetime64[us, UTC]"]
)
def test_parquet_times_of_any_kind(bench: Bench, kind: str):
    frame = pd.DataFrame({"user_id": ["1"], "item_id": ["2"], "rating": [4.0]})
    frame["datetime"] = pd.to_datetime(["2000-07-30 18:45:03"], utc="UTC" in kind).astype(kind)
    frame.to_parquet(bench.folder / "raw" / "r.parquet")
    done = bench.ingest(ratings=str(bench.folder / "raw" / "r.parquet"))
    assert table(done, "ratings")[0]["timestamp"] == at(964982703)


def test_missing_times_stay_missing_and_come_first(bench: Bench):
    rows = bench.ratings(HEADER + "1,5,4,200\n1,2,4,\n1,3,4,\\N\n1,4,4,100\n")
    assert [(row[1], row[3]) for row in rows] == [("2", None), ("3", None), ("4", at(100)), ("5", at(200))]


def test_impossible_times_are_rejected_and_improbable_ones_kept(bench: Bench):
    done = bench.ingest(
        ratings=str(
            bench.write("r.csv", HEADER + "1,2,4,-5\n1,3,4,964982703\n1,4,4,4102444800\n1,5,4,1e30\n1,6,4,inf\n")
        )
    )
    assert [row["item_id"] for row in table(done, "ratings")] == ["2", "3", "4"]
    assert [(row["line"], row["column"]) for row in table(done, "rejects")] == [(5, "timestamp"), (6, "timestamp")]


def test_order_is_known_only_where_nearly_all_rows_have_differing_times(bench: Bench):
    def ordered(text: str) -> bool:
        done = bench.ingest(ratings=str(bench.write("r.csv", text)))
        return bool(read_manifest(done.dataset).summary["ordered"])

    assert ordered(HEADER + "1,2,4,100\n1,3,4,200\n")
    assert not ordered(HEADER + "1,2,4,100\n1,3,4,100\n")
    assert not ordered(HEADER + "1,2,4,\n1,3,4,200\n")
    assert not ordered("userId,movieId,rating\n1,2,4\n1,3,4\n")


# Titles


def test_titles_that_look_like_nothing_are_kept(bench: Bench):
    rows = bench.titles("movieId,title\n1,None\n2,NA\n3,null\n4,\n5,nan\n")
    assert [row["title"] for row in rows] == ["None", "NA", "null", "", "nan"]


def test_year_and_article_are_taken_out_of_the_title(bench: Bench):
    rows = bench.titles(
        'movieId,title,genres\n1,"Matrix, The (1999)",Action|Sci-Fi\n2,1984 (1984),(no genres listed)\n3,(1995),\n'
        "4,Blade Runner 2049 (2017),\n5,A Series (1995-1999),\n6,Up,\n7,Gordy (1995) (V),\n"
    )
    assert [(row["title"], row["year"]) for row in rows] == [
        ("The Matrix", 1999), ("1984", 1984), ("(1995)", 1995), ("Blade Runner 2049", 2017),
        ("A Series", 1995), ("Up", None), ("Gordy", 1995),
    ]  # fmt: skip
    assert [row["genres"] for row in rows[:3]] == [["Action", "Sci-Fi"], [], []]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("Tom Hanks|Tim Allen", ["Tom Hanks", "Tim Allen"]),
        ('["Tom Hanks", "Tim Allen"]', ["Tom Hanks", "Tim Allen"]),
        ('[{"id": 31, "name": "Tom Hanks"}, {"id": 12, "name": "Tim Allen"}]', ["Tom Hanks", "Tim Allen"]),
        ("Tom Hanks, Tim Allen", ["Tom Hanks", "Tim Allen"]),
        ("Tom Hanks", ["Tom Hanks"]),
        (" Tom Hanks | | Tim Allen ", ["Tom Hanks", "Tim Allen"]),
        ("[not json", ["[not json"]),
        ("[]", []),
        ("", []),
    ],
)
def test_lists_in_cells(bench: Bench, cell: str, words: list[str]):
    frame = pd.DataFrame({"movieId": [1], "title": ["Toy Story"], "actors": [cell]})
    assert bench.titles(frame.to_csv(index=False))[0]["cast"] == words


def test_titles_from_parquet_with_real_lists_and_recbole_items(bench: Bench):
    frame = pd.DataFrame(
        {
            "item_id": ["10"],
            "name": ["Heat"],
            "release_date": [pd.Timestamp("1995-12-15")],
            "keywords": [["heist", None, ""]],
        }
    )
    frame["category"] = pd.Categorical(["Crime"])
    frame.to_parquet(bench.folder / "raw" / "t.parquet")
    row = bench.titles((bench.folder / "raw" / "t.parquet").read_bytes(), "t.parquet")[0]
    assert (row["title"], row["year"], row["tags"], row["genres"]) == ("Heat", 1995, ["heist"], ["Crime"])
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    item = f"{header}\n1\tBirdcage, The\t1996\tComedy Film-Noir\n"
    row = bench.titles(item, "ml.item")[0]
    assert (row["title"], row["year"], row["genres"]) == ("The Birdcage", 1996, ["Comedy", "Film-Noir"])


def test_titles_are_sorted_and_one_without_an_id_is_rejected(bench: Bench):
    done = bench.ingest(
        ratings=str(bench.write("r.csv", HEADER + ROWS)),
        titles=str(bench.write("t.csv", "movieId,title\n9,Nine\n10,Ten\n,Lost\n")),
    )
    assert [row["item_id"] for row in table(done, "titles")] == ["10", "9"]
    assert [(row["table"], row["file"], row["value"]) for row in table(done, "rejects")] == [
        ("titles", "t.csv", "Lost")
    ]


def test_availability_and_regions(bench: Bench):
    row = bench.titles(
        "movieId,title,available_from,available_until,regions\n1,A,2020-01-01,2021-01-01T00:00:00Z,DE|FR\n"
    )[0]
    assert row["available_from"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert row["available_until"] == datetime(2021, 1, 1, tzinfo=UTC)
    assert row["regions"] == ["DE", "FR"]


def test_an_id_may_be_called_otherwise_in_the_titles(bench: Bench):
    done = bench.ingest(
        ratings=str(bench.write("r.csv", "viewer,film\n1,2\n")),
        titles=str(bench.write("t.csv", "id,title\n2,Two\n")),
        columns={"user_id": "viewer", "item_id": "film"},
    )
    assert table(done, "titles")[0]["item_id"] == "2"
    with pytest.raises(SourceError, match="no column 'nom'"):
        bench.ingest(
            ratings=str(bench.folder / "raw" / "r.csv"),
            titles=str(bench.folder / "raw" / "t.csv"),
            columns={"user_id": "viewer", "item_id": "film", "title": "nom"},
        )


def test_a_real_and_awkward_metadata_file(bench: Bench):
    path = DATA / "tmdb-5000" / "tmdb_5000_movies.csv.gz"
    if not path.is_file():
        pytest.skip("TMDB 5000 is not there: set MARQUEE_TEST_DATA")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        expected = pd.read_csv(stream, keep_default_na=False).set_index("id")
    done = bench.ingest(ratings=str(bench.write("r.csv", HEADER + ROWS)), titles=str(path))
    rows = {int(row["item_id"]): row for row in table(done, "titles")}
    assert len(rows) == len(expected) == 4_803
    plots = expected["overview"].str.replace("\r\n", "\n").str.replace("\r", " ")
    assert {key: row["plot"] for key, row in rows.items()} == plots.to_dict()
    assert rows[19995]["genres"] == ["Action", "Adventure", "Fantasy", "Science Fiction"]
    assert rows[19995]["year"] == 2009


# Files


def test_files_that_are_not_there_or_not_of_a_known_kind(bench: Bench):
    for source in (
        {"ratings": "nowhere.csv"},
        {"ratings": str(bench.folder / "*.none")},
        {"ratings": "s3://bucket/r.csv"},
    ):
        with pytest.raises(SourceError) as caught:
            bench.ingest(**source)
        assert "[source] ratings" in str(caught.value)
    with pytest.raises(ConfigError, match="needs the path"):
        bench.ingest()
    assert "Unpack or save" in bench.fails("x", "r.zip")
    bench.write("mixed-1.csv", HEADER + ROWS)
    pd.DataFrame({"user_id": [1], "item_id": [1]}).to_parquet(bench.folder / "raw" / "mixed-2.parquet")
    with pytest.raises(SourceError, match="more than one kind"):
        bench.ingest(ratings=str(bench.folder / "raw" / "mixed-*"))


def test_a_folder_of_parts_is_one_table(bench: Bench):
    (bench.folder / "parts").mkdir()
    for n in range(3):
        (bench.folder / "parts" / f"part-{n}.csv").write_text(f"{HEADER}{n},2,4,100\n")
    (bench.folder / "parts" / "_SUCCESS").write_text("")
    assert bench.ingest(ratings=str(bench.folder / "parts")).rows == 3


def test_nothing_is_left_behind_whether_it_ends_well_or_not(bench: Bench):
    bench.ratings(HEADER + ROWS)
    bench.fails("a,b\n1,2\n", "bad.csv")
    home = bench.folder / "home"
    assert sorted(path.name for path in home.iterdir()) == ["artefacts", "tmp"]
    assert list((home / "tmp").iterdir()) == []
    leftover = home / "tmp" / "ingest-999999999-dead"
    leftover.mkdir()
    bench.ratings(HEADER + ROWS + "9,9,1,100\n")
    assert not leftover.exists()


def test_a_failed_ingestion_changes_nothing(bench: Bench):
    bench.ratings(HEADER + ROWS)
    store = ArtefactStore(bench.folder / "home")
    before = store.latest("dataset")
    bench.fails(HEADER + "broken\n", "bad.csv")
    assert store.latest("dataset") == before


def test_a_full_disk_is_told_with_the_file_and_the_room_that_is_needed(bench: Bench):
    lines = (f"{n % 700},{n},4,{100 + n}" for n in range(150_000))
    path = bench.write("r.csv", HEADER + "\n".join(lines))
    script = f"""
import resource, signal
from pathlib import Path
from recsys.config import SourceConfig
from recsys.data.ingest import ingest
from recsys.errors import MarqueeError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    ingest(SourceConfig(kind="files", ratings={str(path)!r}), Path({str(bench.folder / "home")!r}))
except MarqueeError as error:
    print(error.exit_code, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("1 ")
    assert "ratings.parquet" in done.stdout
    assert "MB are needed there and" in done.stdout
    assert list((bench.folder / "home" / "tmp").iterdir()) == []
    assert ArtefactStore(bench.folder / "home").latest("dataset") is None


def test_many_row_groups_hold_the_same_rows(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("recsys.data.dataset_files.ROW_GROUP", 1_000)
    lines = [f"{n % 700},{n},4,{100 + n}" for n in range(70_000)]
    done = bench.ingest(ratings=str(bench.write("r.csv", HEADER + "\n".join(lines))))
    file = pq.ParquetFile(done.dataset.file("ratings.parquet"))
    assert file.metadata.num_row_groups == 70
    rows = file.read()
    assert rows["user_id"].to_pylist() == sorted(rows["user_id"].to_pylist())
    assert len(set(rows["item_id"].to_pylist())) == 70_000
