"""Rows found again in the raw files."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.config import SourceConfig
from recsys.data.delimited import lines_at
from recsys.data.ingest import Ingested, ingest
from recsys.data.locate import locate_lines


def made(tmp_path: Path, ratings: Path | str) -> Ingested:
    return ingest(SourceConfig(kind="files", ratings=str(ratings)), tmp_path / "home")


def where(done: Ingested, rows: dict[str, list]) -> list[tuple]:
    return [tuple(row.values()) for row in locate_lines(done.dataset, pa.table(rows)).to_pylist()]


def test_rows_are_found_in_the_order_asked_for(tmp_path: Path):
    (tmp_path / "r.csv").write_text("rating,userId,movieId\n4,1,10\n\n7,2,10\nNaN,1,11\n4,3,12\n")
    done = made(tmp_path, tmp_path / "r.csv")
    assert where(done, {"user_id": ["1", "2", "9"], "item_id": ["11", "10", "9"]}) == [
        ("r.csv", 5), ("r.csv", 4), (None, None),
    ]  # fmt: skip
    assert locate_lines(done.source, pa.table({"user_id": ["2"], "item_id": ["10"]}))["line"].to_pylist() == [4]


def test_the_rating_tells_equal_ids_apart_and_equal_rows_get_the_lines_in_turn(tmp_path: Path):
    (tmp_path / "r.csv").write_text("userId,movieId,rating\n1,10,4.0\n1,10,7\n1,10,NaN\n1,10,7.0\n")
    done = made(tmp_path, tmp_path / "r.csv")
    rows = {"user_id": ["1"] * 4, "item_id": ["10"] * 4, "rating": pa.array([np.nan, 7.0, 7.0, 4.0], pa.float32())}
    assert [line for _, line in where(done, rows)] == [4, 3, 5, 2]
    assert [line for _, line in where(done, {"user_id": ["1"], "item_id": ["10"], "rating": ["7.0"]})] == [3]
    assert [line for _, line in where(done, {"user_id": ["1"] * 5, "item_id": ["10"] * 5})] == [2, 3, 4, 5, None]


def test_parts_packed_files_and_quoted_fields(tmp_path: Path):
    with gzip.open(tmp_path / "part-0.csv.gz", "wt") as stream:
        stream.write('"userId","movieId","rating"\n"1","10","4"\n')
    with gzip.open(tmp_path / "part-1.csv.gz", "wt") as stream:
        stream.write('"userId","movieId","rating"\n"2","10","4"\n"3","11","9"\n')
    done = made(tmp_path, tmp_path / "part-*.csv.gz")
    assert where(done, {"user_id": ["3", "1"], "item_id": ["11", "10"]}) == [("part-1.csv.gz", 3), ("part-0.csv.gz", 2)]


def test_unknown_where_there_are_no_lines_or_the_files_are_no_longer_those(tmp_path: Path):
    pd.DataFrame({"user_id": ["1"], "item_id": ["2"], "rating": [9.0]}).to_parquet(tmp_path / "r.parquet")
    asked = {"user_id": ["1"], "item_id": ["2"]}
    assert where(made(tmp_path, tmp_path / "r.parquet"), asked) == [(None, None)]
    (tmp_path / "r.csv").write_text("userId,movieId,rating\n1,2,8\n")
    done = made(tmp_path, tmp_path / "r.csv")
    assert where(done, asked) == [("r.csv", 2)]
    (tmp_path / "r.csv").write_text("userId,movieId,rating\n9,9,9\n1,2,8\n")
    assert where(done, asked) == [(None, None)]
    (tmp_path / "r.csv").unlink()
    assert where(done, asked) == [(None, None)]


def test_lines_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("recsys.data.rawfiles.BLOCK", 64)
    lines = [f"{n},{n + 1},3" for n in range(300)]
    (tmp_path / "r.csv").write_text("userId,movieId,rating\n" + "\n".join(lines))
    done = made(tmp_path, tmp_path / "r.csv")
    picked = [0, 7, 8, 150, 299]
    rows = {"user_id": [str(n) for n in picked], "item_id": [str(n + 1) for n in picked]}
    assert [line for _, line in where(done, rows)] == [n + 2 for n in picked]
    content = (tmp_path / "r.csv").read_bytes()
    positions = np.array([0, 5, 22, 64, 65, 1000, len(content) - 1])
    assert lines_at(tmp_path / "r.csv", positions).to_pylist() == [content[:p].count(b"\n") + 1 for p in positions]


def test_nothing_is_left_behind(tmp_path: Path):
    (tmp_path / "r.csv").write_text("userId,movieId,rating\n1,2,8\n")
    done = made(tmp_path, tmp_path / "r.csv")
    before = sorted((tmp_path / "home").rglob("*"))
    where(done, {"user_id": ["1"], "item_id": ["2"]})
    assert sorted((tmp_path / "home").rglob("*")) == before
