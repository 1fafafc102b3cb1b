import json
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys import columns
from recsys.artefacts import ArtefactStore, write_table
from recsys.errors import PublicationError, StorageError
from recsys.publish import remote as subject
from recsys.publish.files import FileSink
from recsys.publish.remote import RemoteExports, publish, rollback
from recsys.storage import Remote

NIGHT = date(2026, 11, 24)


class Machine:
    """A home that publishes to a folder shared by all machines."""

    def __init__(self, folder: Path, name: str) -> None:
        self.home = folder / name
        self.sink = FileSink(self.home)
        self.remote = Remote(f"file://{folder}/far")
        self.exports = RemoteExports(self.remote)

    def lists(self, night: int, user: str = "ann"):
        with ArtefactStore(self.home).create("recommendations", {}, {"night": night}) as (draft, ref):
            row = {"user_id": user, "rank": 1, "item_id": f"i{night}", "score": 1.0, "model_version": "1"}
            schema = columns.RECOMMENDATIONS
            table = schema.empty_table().from_pylist([{**row, "run_date": NIGHT}], schema)
            write_table(draft.file("recommendations/part-00000.parquet"), table)
            write_table(draft.file("similar_titles/part-00000.parquet"), columns.SIMILAR_TITLES.empty_table())
            draft.rows["recommendations"] = 1
        return ref

    def publish(self, night: int, user: str = "ann", **options):
        return publish(
            self.sink,
            self.remote,
            self.lists(night, user),
            run_date=NIGHT + timedelta(days=night),
            users=1,
            model_version="1",
            run_id=f"r{night}",
            **options,
        )

    def here(self) -> str:
        return json.loads(self.sink.pointer_path.read_text())["run_id"]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("file://"))


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path, "here")


def test_a_generation_appears_on_both(machine):
    assert machine.exports.current() is None
    pointer, reused = machine.publish(1)
    far = machine.exports.current()
    assert not reused
    assert (far.generation, far.digest, far.run_id) == (pointer.generation, pointer.digest, "r1")
    assert pq.read_table(path_of(far.path))["item_id"].to_pylist() == ["i1"]
    assert pq.read_table(path_of(far.similar_path)).num_rows == 0
    assert machine.publish(1) == (pointer, True)
    assert machine.exports.current() == far


def test_old_generations_go(machine, tmp_path):
    for night in range(5):
        machine.publish(night)
    assert [each.run_id for each in machine.exports.current().previous] == ["r3", "r2"]
    for table in ("top_n", "similar_titles"):
        assert len(list((tmp_path / "far" / "exports" / table).glob("*/*/part-*"))) == 3
    assert (tmp_path / "far" / "exports" / "top_n" / "CURRENT").is_file()


def test_the_fence_guards_both_pointers(machine):
    machine.publish(1)

    @contextmanager
    def lost():
        raise PublicationError("the lock is lost")
        yield

    with pytest.raises(PublicationError, match="lost"):
        machine.publish(2, fence=lost)
    assert (machine.here(), machine.exports.current().run_id) == ("r1", "r1")


def test_a_storage_that_fails_leaves_both_pointers(machine, tmp_path):
    machine.publish(1)
    (tmp_path / "far").rename(tmp_path / "away")
    (tmp_path / "far").write_text("no folder")
    with pytest.raises(StorageError):
        machine.publish(2)
    assert machine.here() == "r1"
    (tmp_path / "far").unlink()
    (tmp_path / "away").rename(tmp_path / "far")
    assert machine.exports.current().run_id == "r1"
    machine.publish(2)
    assert (machine.here(), machine.exports.current().run_id) == ("r2", "r2")


def test_killed_between_the_two_pointers_the_next_run_puts_it_right(machine):
    machine.publish(1)
    before = machine.sink.pointer_path.read_text()
    machine.publish(2)
    machine.sink.pointer_path.write_text(before)
    _, reused = machine.publish(2)
    assert not reused
    assert (machine.here(), machine.exports.current().run_id) == ("r2", "r2")
    assert [each.run_id for each in machine.exports.current().previous] == ["r1"]


def test_a_storage_that_is_behind_follows(machine, tmp_path):
    machine.publish(1)
    (tmp_path / "far").rename(tmp_path / "away")  # as under another url
    _, reused = machine.publish(1)
    assert not reused
    assert machine.exports.current().run_id == "r1"


def test_an_object_that_went_missing_is_sent_again(machine):
    machine.publish(1)
    (part,) = path_of(machine.exports.current().path).glob("part-*")
    part.unlink()
    machine.publish(1)
    assert part.is_file()


def test_a_file_that_does_not_arrive_is_named(machine, monkeypatch):
    monkeypatch.setattr(Remote, "put", lambda *_: None)  # a storage that says yes and keeps nothing
    with pytest.raises(PublicationError, match=r"part-00000.parquet: the file did not arrive whole \(0 of \d+ bytes\)"):
        machine.publish(1)
    assert machine.exports.current() is None
    assert machine.sink.current() is None


def test_the_chain_is_the_storages_whoever_publishes(machine, tmp_path):
    other = Machine(tmp_path, "there")
    machine.publish(1)
    other.publish(2)
    machine.publish(3)
    assert [each.run_id for each in machine.exports.current().previous] == ["r2", "r1"]


def test_a_served_generation_is_not_touched_by_one_with_other_bytes(machine, tmp_path):
    machine.publish(1)
    served = machine.exports.current()
    other = Machine(tmp_path, "there")
    other.publish(1, user="bob")
    assert machine.exports.current() == served
    assert pq.read_table(path_of(served.path))["user_id"].to_pylist() == ["ann"]


def test_pruning_that_fails_does_not_fail_the_publication(machine, monkeypatch):
    def fail(self):
        raise StorageError("gone")

    monkeypatch.setattr(subject.RemoteExports, "prune", fail)
    machine.publish(1)
    assert machine.exports.current().run_id == "r1"


def test_rollback_flips_both(machine):
    machine.publish(1)
    machine.publish(2)
    assert rollback(machine.sink, machine.remote).run_id == "r1"
    assert (machine.here(), machine.exports.current().run_id) == ("r1", "r1")
    with pytest.raises(PublicationError, match="far/exports/top_n/CURRENT: there is no previous publication"):
        rollback(machine.sink, machine.remote)


def test_rollback_on_a_machine_that_published_nothing(machine, tmp_path):
    machine.publish(1)
    machine.publish(2)
    other = Machine(tmp_path, "there")
    assert rollback(other.sink, other.remote).run_id == "r1"
    assert machine.exports.current().run_id == "r1"
    assert (machine.here(), other.sink.current()) == ("r2", None)


def test_rollback_to_files_that_are_gone_is_refused(machine):
    machine.publish(1)
    (part,) = path_of(machine.exports.current().path).glob("part-*")
    machine.publish(2)
    part.unlink()
    with pytest.raises(PublicationError, match="the previous publication's files are gone"):
        rollback(machine.sink, machine.remote)
    assert (machine.here(), machine.exports.current().run_id) == ("r2", "r2")


def test_a_damaged_pointer_is_named(machine, tmp_path):
    machine.publish(1)
    (tmp_path / "far" / "exports" / "top_n" / "CURRENT").write_text("{")
    with pytest.raises(PublicationError, match="CURRENT: the pointer is damaged"):
        machine.publish(2)


def test_without_a_storage_it_is_homes_alone(machine):
    lists = machine.lists(1)
    said = {"run_date": NIGHT, "users": 1, "model_version": "1", "run_id": "r1"}
    publish(machine.sink, None, lists, **said)
    publish(machine.sink, None, machine.lists(2), **{**said, "run_id": "r2"})
    assert rollback(machine.sink, None).run_id == "r1"
    assert machine.exports.current() is None
