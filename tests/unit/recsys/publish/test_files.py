import json
from contextlib import contextmanager
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest

from recsys import columns
from recsys.artefacts import ArtefactStore, write_table
from recsys.errors import PublicationError
from recsys.publish.files import FileSink

NIGHT = date(2026, 11, 24)


@pytest.fixture
def sink(tmp_path):
    return FileSink(tmp_path)


def lists(home, night: int):
    store = ArtefactStore(home)
    with store.create("recommendations", {}, {"night": night}) as (draft, ref):
        row = {
            "user_id": "ann",
            "rank": 1,
            "item_id": f"i{night}",
            "score": 1.0,
            "model_version": "1",
            "run_date": NIGHT,
        }
        table = columns.RECOMMENDATIONS.empty_table().from_pylist([row], columns.RECOMMENDATIONS)
        write_table(draft.file("recommendations/part-00000.parquet"), table)
        write_table(draft.file("similar_titles/part-00000.parquet"), columns.SIMILAR_TITLES.empty_table())
        draft.rows["recommendations"] = 1
    return ref


def publish(sink, home, night: int, **options):
    return sink.publish(
        lists(home, night),
        run_date=NIGHT + timedelta(days=night),
        users=1,
        model_version="1",
        run_id=f"r{night}",
        **options,
    )


def served(sink) -> list[str]:
    return pq.read_table(json.loads(sink.pointer_path.read_text())["path"])["item_id"].to_pylist()


def test_a_generation_appears_whole(sink, tmp_path):
    assert sink.current() is None
    pointer, reused = publish(sink, tmp_path, 1)
    assert not reused
    assert served(sink) == ["i1"]
    assert sink.folder(pointer).as_posix() == pointer.path
    assert pq.read_table(pointer.similar_path).num_rows == 0
    again, reused = publish(sink, tmp_path, 1)
    assert reused
    assert again == pointer


def test_three_generations_are_kept(sink, tmp_path):
    for night in range(5):
        pointer, _ = publish(sink, tmp_path, night)
    assert [p.run_id for p in pointer.previous] == ["r3", "r2"]
    assert len(list((tmp_path / "exports" / "top_n").glob("*/generation=*"))) == 3
    assert len(list((tmp_path / "exports" / "similar_titles").glob("*/generation=*"))) == 3


def test_rollback_goes_back_step_by_step(sink, tmp_path):
    for night in range(3):
        publish(sink, tmp_path, night)
    assert sink.rollback().run_id == "r1"
    assert served(sink) == ["i1"]
    assert sink.rollback().run_id == "r0"
    with pytest.raises(PublicationError, match="no previous"):
        sink.rollback()
    assert served(sink) == ["i0"]
    assert publish(sink, tmp_path, 2)[1] is False
    assert served(sink) == ["i2"]


def test_rollback_needs_the_files(sink, tmp_path):
    first, _ = publish(sink, tmp_path, 0)
    publish(sink, tmp_path, 1)
    for part in sink.folder(first).iterdir():
        part.unlink()
    with pytest.raises(PublicationError, match="files are gone"):
        sink.rollback()
    assert served(sink) == ["i1"]


def test_bytes_that_changed_after_the_audit_are_not_published(sink, tmp_path):
    publish(sink, tmp_path, 0)
    ref = lists(tmp_path, 1)
    part = ref.file("recommendations/part-00000.parquet")
    data = bytearray(part.read_bytes())
    data[50] ^= 1
    part.write_bytes(data)
    with pytest.raises(PublicationError, match="sha256"):
        sink.publish(ref, run_date=NIGHT, users=1, model_version="1", run_id="r1")
    assert served(sink) == ["i0"]
    assert not list((tmp_path / "exports").rglob("*.tmp"))


def test_a_run_that_lost_its_lock_does_not_swap(sink, tmp_path):
    publish(sink, tmp_path, 0)

    @contextmanager
    def lost():
        raise PublicationError("the lock was lost")
        yield

    with pytest.raises(PublicationError, match="lock was lost"):
        publish(sink, tmp_path, 1, fence=lost)
    assert served(sink) == ["i0"]


def test_a_damaged_generation_is_written_again(sink, tmp_path):
    pointer, _ = publish(sink, tmp_path, 0)
    part = next(sink.folder(pointer).iterdir())
    part.write_bytes(b"")
    assert publish(sink, tmp_path, 0)[1] is False
    assert served(sink) == ["i0"]


def test_a_damaged_pointer_says_so_and_a_night_mends_it(sink, tmp_path):
    publish(sink, tmp_path, 0)
    sink.pointer_path.write_text("{")
    with pytest.raises(PublicationError, match="pointer is damaged"):
        sink.current()
