"""The fast way and the careful way give the same bytes; what was parsed once is not parsed again."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recsys.artefacts import read_manifest, read_table, verify
from recsys.config import SourceConfig
from recsys.data import chunks, dataset_files
from recsys.data.ingest import Ingested, ingest

HEADER = b"userId,movieId,rating,timestamp\n"
FILES = ("ratings.parquet", "rejects.parquet", "titles.parquet")


def read(home: Path, *files: Path, notes: list[str] | None = None, **source) -> Ingested:
    pattern = str(files[0]) if len(files) == 1 else str(files[0].parent / "*.csv")
    config = SourceConfig(kind="files", ratings=pattern, **source)
    return ingest(config, home, note=(notes if notes is not None else []).append)


def digests(done: Ingested) -> dict[str, str]:
    manifest = verify(done.dataset)
    return {name: manifest.files[name].sha256 for name in FILES}


def said(done: Ingested) -> dict:
    kept = ("reading", "timestamp_unit", "ordered", "implicit")
    return {name: read_manifest(done.dataset).summary[name] for name in kept}


def lines_of(n: int, seed: int = 0, start: int = 0) -> list[bytes]:
    draw = random.Random(seed)
    return [
        b"%d,%03d,%.1f,%d\n" % (draw.randrange(50), draw.randrange(90), draw.randrange(1, 11) / 2, 10**9 + start + i)
        for i in range(n)
    ]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of some lines in segments of some chunks, so that little files have many."""
    monkeypatch.setattr(chunks, "SEGMENT", 4_000)
    monkeypatch.setattr(chunks, "LEAST", 64)
    monkeypatch.setattr(chunks, "MOST", 1_000)
    monkeypatch.setattr(chunks, "_ONE_LINE_IN_512", chunks.np.uint64(64 - 4))


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch):
    """Ingest without the fast way."""

    def run(home: Path, *files: Path, **source) -> Ingested:
        with monkeypatch.context() as patch:
            patch.setattr(dataset_files, "read_fast", lambda *_: None)
            return read(home, *files, **source)

    return run


FIELD = st.one_of(
    st.sampled_from(
        [b"1", b"007", b"", b" 2", b"4.5", b"5", b"-1", b"nan", b"NaN", b"inf", b"1e3", b".5", b"5.", b"+3", b"0x10",
         b"1_0", b"\\N", b"null", b"None", b"1000000000", b"1000000000.5", b"1700000000000", b"-70000000000", b"1e300",
         b"2020-01-02", b"2020-01-02 03:04:05", b"3,5", b"a b", b"\xc3\xa9", b"0", b"1e-45", b"3.4028236e38", b"-0",
         b"999999999999999999999", b"1.2.3", b"True", b"1e400", b"0.1", b"3.3333333333333333"]
    ),
    st.binary(max_size=3),
)  # fmt: skip
LINE = st.one_of(
    st.tuples(st.sampled_from([b"u1", b"u2", b"7"]), st.sampled_from([b"i1", b"i2"]), FIELD, FIELD).map(b",".join),
    st.lists(FIELD, max_size=5).map(b",".join),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=st.lists(st.tuples(st.integers(0, 119), LINE), max_size=12), end=st.sampled_from([b"\n", b"\r\n"]))
@example(odd=[(0, b"1,2,4,"), (3, b"1,2,4,\\N")], end=b"\n")
@example(odd=[(5, b"1,2,4,1700000000000")], end=b"\n")
@example(odd=[(5, b""), (6, b"one"), (70, b"1,2,x,3")], end=b"\r\n")
def test_the_fast_way_gives_what_the_careful_way_gives(tmp_path_factory, small_chunks, careful, odd, end):
    folder = tmp_path_factory.mktemp("both")
    lines = lines_of(120)
    for place, line in odd:
        lines.insert(place, line + b"\n")
    path = folder / "r.csv"
    path.write_bytes((HEADER + b"".join(lines)).replace(b"\n", end))
    fast, slow = read(folder / "fast", path), careful(folder / "slow", path)
    assert read_table(fast.dataset.file("rejects.parquet")).to_pylist() == (
        read_table(slow.dataset.file("rejects.parquet")).to_pylist()
    )
    assert (digests(fast), said(fast), fast.rejected) == (digests(slow), said(slow), slow.rejected)


def test_without_a_last_line_end_without_ratings_and_without_times(tmp_path, small_chunks, careful):
    for name, text in {
        "open": HEADER + b"".join(lines_of(50)).rstrip(b"\n"),
        "implicit": b"user_id,item_id,timestamp\n" + b"".join(b"%d,%d,%d\n" % (n % 7, n, 10**9 + n) for n in range(99)),
        "untimed": b"user_id,item_id,rating\n" + b"".join(b"%d,%d,4\n" % (n % 7, n) for n in range(99)),
        "micros": HEADER + b"".join(b"%d,%d,4,%d\n" % (n % 7, n, 10**15 + n) for n in range(99)),
        "milli": HEADER + b"".join(b"%d,%d,4,%d\n" % (n % 7, n, 10**12 + n) for n in range(99)),
        "equal": HEADER + b"1,1,4,5\n1,1,3,5\n1,0,4,5\n1,1,4,5\n0,1,nan,5\n",
        "tab": b"userId\tmovieId\trating\n" + b"".join(b"%d\t%d\t4\n" % (n % 7, n) for n in range(99)),
        "bom": b"\xef\xbb\xbf" + HEADER + b"".join(lines_of(20)),
    }.items():
        path = tmp_path / f"{name}.{'tsv' if name == 'tab' else 'csv'}"
        path.write_bytes(text)
        fast, slow = read(tmp_path / f"fast {name}", path), careful(tmp_path / f"slow {name}", path)
        assert (digests(fast), said(fast)) == (digests(slow), said(slow)), name


def changed(lines: list[bytes], seed: int) -> list[bytes]:
    """Another night: rows appended, changed, erased, some of them a whole user's, some not plain."""
    draw = random.Random(seed)
    lines = list(lines)
    for _ in range(draw.randrange(4)):
        lines[draw.randrange(len(lines))] = lines_of(1, draw.randrange(99))[0]
    for _ in range(draw.randrange(4)):
        del lines[draw.randrange(len(lines))]
    if draw.random() < 0.5:
        gone = b"%d," % draw.randrange(50)
        lines = [line for line in lines if not line.startswith(gone)]
    if draw.random() < 0.3:
        lines.insert(draw.randrange(len(lines)), draw.choice([b"torn\n", b"1,2,,5\n", b"1,2,3,\n", b"\n"]))
    if draw.random() < 0.2:
        start = draw.randrange(len(lines))
        lines[start:start] = lines[: draw.randrange(60)]  # the same lines once more, moved
    return [*lines, *lines_of(draw.randrange(30), draw.randrange(99), start=10_000)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_a_later_night_is_to_the_byte_what_reading_afresh_gives(tmp_path_factory, small_chunks, seed):
    folder = tmp_path_factory.mktemp("nights")
    path, lines = folder / "r.csv", lines_of(1_500, seed)
    for night in range(3):
        path.write_bytes(HEADER + b"".join(lines))
        done, afresh = read(folder / "home", path), read(folder / f"afresh {night}", path)
        assert (digests(done), said(done)) == (digests(afresh), said(afresh))
        if not done.reused:
            assert afresh.kept_rows == 0
            assert done.kept_bytes + done.parsed_bytes == path.stat().st_size - len(HEADER)
            assert (done.kept_rows > 0) == (night > 0)
        lines = changed(lines, seed + night)


def test_only_what_changed_is_parsed(tmp_path, small_chunks):
    path, lines, notes = tmp_path / "r.csv", lines_of(5_000), []
    path.write_bytes(HEADER + b"".join(lines))
    first = read(tmp_path / "home", path)
    assert (first.kept_rows, first.parsed_bytes) == (0, path.stat().st_size - len(HEADER))
    lines[2_000] = b"1,1,1.0,7\n"
    del lines[3_000]
    path.write_bytes(HEADER + b"".join([*lines, *lines_of(20, 5)]))
    second = read(tmp_path / "home", path, notes=notes)
    assert 0 < second.parsed_bytes < 0.1 * path.stat().st_size
    assert any(note.startswith(f"{second.kept_rows:,} ratings taken from the last dataset") for note in notes)


def test_files_that_did_not_change_are_not_parsed_again(tmp_path, small_chunks):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.csv").write_bytes(HEADER + b"".join(lines_of(500, ord(name))))
    read(tmp_path / "home", folder / "a.csv", folder / "b.csv")
    (folder / "c.csv").write_bytes(HEADER + b"".join(lines_of(100, 9)))
    done = read(tmp_path / "home", folder / "a.csv", folder / "b.csv")
    assert done.kept_rows == 1_000
    assert digests(done) == digests(read(tmp_path / "afresh", folder / "a.csv", folder / "b.csv"))


def test_times_of_another_unit_are_read_afresh(tmp_path, small_chunks):
    path = tmp_path / "r.csv"
    rows = lines_of(300)
    path.write_bytes(HEADER + b"".join(rows))
    read(tmp_path / "home", path)
    later = [b"%d,%d,4,%d\n" % (n % 7, n, 10**12 + n) for n in range(900)]
    path.write_bytes(HEADER + b"".join([*rows, *later]))
    done = read(tmp_path / "home", path)
    assert read_manifest(done.dataset).summary["timestamp_unit"] == "milliseconds"
    assert done.kept_rows == 0
    assert digests(done) == digests(read(tmp_path / "afresh", path))


def test_a_damaged_memory_is_not_used(tmp_path, small_chunks):
    path, lines = tmp_path / "r.csv", lines_of(300)
    path.write_bytes(HEADER + b"".join(lines))
    first = read(tmp_path / "home", path)
    first.source.file("chunks.parquet").write_bytes(b"x" * first.source.file("chunks.parquet").stat().st_size)
    path.write_bytes(HEADER + b"".join(lines[1:]))
    done = read(tmp_path / "home", path)
    assert done.kept_rows == 0
    assert verify(done.dataset).rows["ratings"] == 299
