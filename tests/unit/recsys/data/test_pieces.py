"""Files read apart and put together are the dataset that one reading of them all gives, faults included."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.artefacts import read_manifest, read_table
from recsys.config import SourceConfig
from recsys.data.ingest import Ingested, ingest
from recsys.data.pieces import read_all_here, read_piece
from recsys.data.sources.base import RawFile, RawTable
from recsys.errors import SourceError


def lines(first: int, n: int) -> str:
    rows = (f"u{(first + k) % 17},m{(first + k) * 7 % 31},{k % 5 + 1},{1_700_000_000 + first + k}\n" for k in range(n))
    return "userId,movieId,rating,timestamp\n" + "".join(rows)


@pytest.fixture
def service(tmp_path: Path) -> SourceConfig:
    """Four files: one with lines that cannot be read, one in Latin-1, one packed, one without a row."""
    folder = tmp_path / "ratings"
    folder.mkdir()
    (folder / "a.csv").write_text(lines(0, 300) + "u1,m2,good,1700000000\nu1\n,m3,4,1700000001\n")
    (folder / "b.csv").write_bytes(lines(300, 200).encode() + "ü9,m1,3,1700009999\n".encode("cp1252"))
    (folder / "c.csv.gz").write_bytes(gzip.compress(lines(500, 100).encode()))
    (folder / "d.csv").write_text(lines(0, 0))
    (tmp_path / "titles.csv").write_text("movieId,title\nm1,One\nm2,Two\n")
    return SourceConfig(kind="files", ratings=f"{folder}/*", titles=str(tmp_path / "titles.csv"))


def both(config: SourceConfig, tmp_path: Path) -> tuple[Ingested, Ingested, list[str], list[str]]:
    notes: tuple[list[str], list[str]] = ([], [])
    whole = ingest(config, tmp_path / "whole", note=notes[0].append)
    apart = ingest(config, tmp_path / "apart", note=notes[1].append, reader=read_all_here)
    return whole, apart, *notes


def test_the_dataset_is_the_same(service: SourceConfig, tmp_path: Path) -> None:
    whole, apart, told, told_apart = both(service, tmp_path)
    assert apart.dataset.digest == whole.dataset.digest
    assert (apart.rows, apart.rejected) == (whole.rows, whole.rejected)
    assert whole.rejected == 3
    rejects = read_table(apart.dataset.file("rejects.parquet")).to_pylist()
    assert sorted((row["file"], row["line"]) for row in rejects) == [("a.csv", 302), ("a.csv", 303), ("a.csv", 304)]
    readings = [read_manifest(each.source).summary["reading"] for each in (whole, apart)]
    assert readings[0] == readings[1]
    assert set(told) == set(told_apart)
    assert any("Latin-1" in note for note in told_apart)


def test_parquet_files_are_the_same_too(tmp_path: Path) -> None:
    for number in range(2):
        rows = {"user_id": ["1", "2"], "item_id": [str(number), "9"], "rating": [4.0, 2.5]}
        pq.write_table(pa.table(rows), tmp_path / f"{number}.parquet")
    whole, apart, *_ = both(SourceConfig(kind="files", ratings=f"{tmp_path}/*.parquet"), tmp_path)
    assert apart.dataset.digest == whole.dataset.digest


def test_one_file_or_a_second_night_is_not_read_apart(service: SourceConfig, tmp_path: Path) -> None:
    def refuse(raw: RawTable, scratch: Path) -> list[Path]:
        raise AssertionError("nobody was to be asked")

    single = service.model_copy(update={"ratings": str(tmp_path / "ratings" / "a.csv")})
    assert ingest(single, tmp_path / "home", reader=refuse).rows == 300
    plain = service.model_copy(update={"ratings": f"{tmp_path}/plain-*.csv"})
    for number in range(2):
        (tmp_path / f"plain-{number}.csv").write_text(lines(300 * number, 300))
    ingest(plain, tmp_path / "nights")
    (tmp_path / "plain-2.csv").write_text(lines(600, 5))
    assert ingest(plain, tmp_path / "nights", reader=refuse).rows == 605


def rename_a_column(folder: Path) -> None:
    (folder / "b.csv").write_text("a,b\n1,2\n")


def empty_all_files(folder: Path) -> None:
    (folder / "c.csv.gz").unlink()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(lines(0, 0))


@pytest.mark.parametrize(("spoil", "words"), [(rename_a_column, "b.csv"), (empty_all_files, "there are no rows")])
def test_a_fault_is_told_as_one_reading_tells_it(
    service: SourceConfig, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(tmp_path / "ratings")
    with pytest.raises(SourceError) as whole:
        ingest(service, tmp_path / "whole")
    with pytest.raises(SourceError, match=words) as apart:
        ingest(service, tmp_path / "apart", reader=read_all_here)
    assert str(apart.value) == str(whole.value)


def test_a_second_attempt_replaces_what_a_dead_one_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(0, 20))
    raw = RawTable("ratings", (RawFile(tmp_path / "a.csv"),), "delimited", required=("user_id", "item_id"))
    first = read_piece(raw, 0, tmp_path / "scratch")
    assert read_piece(raw, 0, tmp_path / "scratch") == first
    assert pq.read_table(first / "rows.parquet").num_rows == 20
