import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys.artefacts import (
    ArtefactRef,
    ArtefactStore,
    digest_of,
    read_manifest,
    read_table,
    verified_file,
    verify,
    write_table,
    write_text,
)
from recsys.errors import ArtefactError

CONFIG = {"a": 1}


@pytest.fixture
def store(tmp_path):
    return ArtefactStore(tmp_path)


def make(store, configuration=CONFIG, text="hello", **options) -> ArtefactRef:
    with store.create("dataset", {"source": "0f"}, configuration, **options) as (draft, ref):
        draft.file("deep/er.txt").write_text(text)
        draft.rows["ratings"] = 3
        draft.summary["scale"] = 5
    return ref


def test_it_appears_whole_and_is_found_again(store):
    assert store.find("dataset", {"source": "0f"}, CONFIG) is None
    ref = make(store, seed=4)
    assert store.find("dataset", {"source": "0f"}, CONFIG) == ref
    manifest = verify(ref)
    assert (manifest.rows, manifest.summary, manifest.seed) == ({"ratings": 3}, {"scale": 5}, 4)
    assert list(manifest.files) == ["deep/er.txt"]
    assert manifest.parents == {"source": "0f"}


def test_the_digest_is_of_what_it_is_made_of():
    base = digest_of("dataset", {"p": "1"}, {"a": 1, "b": 2})
    assert base == digest_of("dataset", {"p": "1"}, {"b": 2, "a": 1})
    assert len({base, digest_of("validated", {"p": "1"}, {"a": 1, "b": 2}), digest_of("dataset", {"p": "2"}, {"a": 1}),
                digest_of("dataset", {"p": "1"}, {"a": 1})}) == 4  # fmt: skip


def test_a_failure_leaves_nothing(store, tmp_path):
    def fail():
        with store.create("dataset", {}, {}) as (draft, _):
            draft.file("half.txt").write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list((tmp_path / "artefacts" / "dataset").iterdir()) == []


def test_a_truncated_file_is_not_whole(store):
    ref = make(store)
    ref.file("deep/er.txt").write_text("hel")
    assert store.find("dataset", {"source": "0f"}, CONFIG) is None
    assert make(store) == ref
    assert verified_file(ref, "deep/er.txt").read_text() == "hello"


def test_a_flipped_byte_is_told_by_name(store):
    ref = make(store)
    ref.file("deep/er.txt").write_text("hellO")
    with pytest.raises(ArtefactError, match=r"er\.txt.*sha256"):
        verified_file(ref, "deep/er.txt")
    ref.file("deep/er.txt").unlink()
    with pytest.raises(ArtefactError, match="missing"):
        verify(ref)


def test_a_missing_or_damaged_manifest(store):
    with pytest.raises(ArtefactError, match="does not exist"):
        read_manifest(store.ref("dataset", "beef"))
    ref = make(store)
    ref.file("manifest.json").write_text(json.dumps({"kind": "dataset"}))
    with pytest.raises(ArtefactError, match="damaged"):
        read_manifest(ref)


def test_latest_is_by_creation(store):
    assert store.latest("dataset") is None
    newer = make(store, {"a": 2}, clock=datetime(2026, 2, 1, tzinfo=UTC))
    make(store, {"a": 1}, clock=datetime(2026, 1, 1, tzinfo=UTC))
    assert store.latest("dataset") == newer


def test_parquet_bytes_are_the_same_and_checked(tmp_path):
    table = pa.table({"x": list(range(10_000))})
    for name in ("a", "b"):
        write_table(tmp_path / name, table, sorted_by=("x",))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_table(tmp_path / "a") == table
    damaged = bytearray((tmp_path / "a").read_bytes())
    damaged[len(damaged) // 4] ^= 1
    (tmp_path / "a").write_bytes(damaged)
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_table(tmp_path / "a")
    (tmp_path / "b").write_bytes(damaged[:200])
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_table(tmp_path / "b")


def test_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / "deep" / "CURRENT", "one")
    write_text(tmp_path / "deep" / "CURRENT", "two")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["CURRENT"]
    assert (tmp_path / "deep" / "CURRENT").read_text() == "two"
