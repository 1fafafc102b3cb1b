import json
import os
from pathlib import Path

import pytest

from recsys.artefacts import MANIFEST, ArtefactStore, verify
from recsys.config import StorageConfig
from recsys.errors import ArtefactError, StorageError
from recsys.remote_artefacts import RemoteArtefacts
from recsys.storage import Remote

FILES = {"a.txt": "alpha", "deep/b.txt": "beta"}


class Machine:
    """A home of its own, with a folder that all machines share as object storage."""

    def __init__(self, folder: Path, name: str) -> None:
        self.far = folder / "far"
        self.home = folder / name
        self.store = ArtefactStore(self.home, RemoteArtefacts.of(StorageConfig(url=f"file://{self.far}")))

    def make(self, files=FILES, **parents):
        with self.store.create("dataset", parents, {"a": 1}) as (draft, ref):
            for name, text in files.items():
                draft.file(name).write_text(text)
        return ref

    def find(self, **parents):
        return self.store.find("dataset", parents, {"a": 1})

    def remote(self, pattern: str) -> list[Path]:
        return sorted(self.far.glob(f"artefacts/dataset/{pattern}"))


@pytest.fixture
def here(tmp_path) -> Machine:
    return Machine(tmp_path, "here")


@pytest.fixture
def there(tmp_path) -> Machine:
    return Machine(tmp_path, "there")


def test_nothing_is_configured():
    assert RemoteArtefacts.of(StorageConfig()) is None


def test_another_machine_finds_what_one_made(here, there):
    assert there.find() is None
    made = here.make()
    found = there.find()
    assert (found.digest, found.path) == (made.digest, str(there.home / "artefacts" / "dataset" / made.digest))
    assert verify(found) == verify(made)
    assert found.file("deep/b.txt").read_text() == "beta"
    assert [path.name for path in Path(found.path).parent.iterdir()] == [made.digest]  # no leftovers


def test_an_artefact_without_files(here, there):
    here.make(files={})
    assert verify(there.find()).files == {}


def test_without_a_manifest_there_is_none_and_the_next_look_uploads_the_rest(here, there):
    made = here.make()
    (manifest,) = here.remote("*/manifest.json")
    (arrived,) = here.remote("*/files-*/a.txt")
    (lost,) = here.remote("*/files-*/deep/b.txt")
    manifest.unlink()
    lost.unlink()
    os.utime(arrived, (1, 1))
    assert there.find() is None
    assert here.find() == made
    assert arrived.stat().st_mtime == 1  # it was not sent again
    assert verify(there.find())


def test_an_artefact_made_with_other_bytes_does_not_mix(here, there):
    """Two machines made it at the same time: the one whose manifest was there first stays."""
    here.make()
    (manifest,) = here.remote("*/manifest.json")
    text = manifest.read_text()
    manifest.unlink()
    there.make({**FILES, "a.txt": "aLpha"})
    assert len(here.remote("*/files-*")) == 2
    manifest.write_text(text)
    there.find()
    assert manifest.read_text() == text
    third = Machine(here.home.parent, "third")
    assert third.find().file("a.txt").read_text() == "alpha"


def test_a_damaged_file_here_is_not_uploaded(here):
    made = here.make()
    for path in (*here.remote("*/manifest.json"), *here.remote("*/files-*/*.txt")):
        path.unlink()
    made.file("a.txt").write_text("alphA")  # as many bytes
    with pytest.raises(ArtefactError, match=f"{made.file('a.txt')}: the bytes are not those that were written"):
        here.find()
    assert here.remote("*/manifest.json") == []


def test_an_unreachable_storage_leaves_the_artefact_here(here, there):
    here.far.write_text("a file where the folder should be")
    with pytest.raises(
        StorageError, match=r"it cannot be read on the object storage .* run again: what was made here stays"
    ):
        here.make()
    here.far.unlink()
    assert here.find() is not None
    assert there.find() is not None


def test_a_damaged_file_there_is_named_and_refused(here, there):
    here.make()
    (file,) = here.remote("*/files-*/a.txt")
    file.write_text("alphA")
    with pytest.raises(ArtefactError, match=f"file://{file}: the bytes are not .* Remove everything under file://"):
        there.find()
    assert not list((there.home / "artefacts").glob("dataset/*"))
    assert not list((there.home / "artefacts").glob("dataset/.*"))


@pytest.mark.parametrize(("damage", "told"), [("", "has 0 bytes instead of 5"), (None, "is missing")])
def test_a_file_that_is_not_whole_there_is_named_and_refused(here, there, damage, told):
    here.make()
    (file,) = here.remote("*/files-*/a.txt")
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(ArtefactError, match=f"{file}: the file {told}"):
        there.find()


def test_after_the_remedy_it_is_there_again(here, there):
    here.make()
    (file,) = here.remote("*/files-*/a.txt")
    file.write_text("alphA")
    for path in here.remote("*/**/*"):
        if path.is_file():
            path.unlink()
    here.find()
    assert verify(there.find())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: {"kind": "dataset"}, "the manifest is damaged"),
        (lambda found: {**found, "digest": "0" * 32}, "the manifest is another artefact's"),
        (lambda found: {**found, "files": {"../../out.txt": found["files"]["a.txt"]}}, "another artefact's"),
        (lambda found: {**found, "files": {"/tmp/out.txt": found["files"]["a.txt"]}}, "another artefact's"),
    ],
)
def test_a_manifest_there_that_is_not_ours_is_refused(here, there, change, told):
    here.make()
    (manifest,) = here.remote(f"*/{MANIFEST}")
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    with pytest.raises(ArtefactError, match=told):
        there.find()


def test_what_came_from_a_parent_does_not_travel_again(here, there, monkeypatch):
    sent = []
    put, get = Remote.put, Remote.get
    monkeypatch.setattr(Remote, "put", lambda self, files: sent.extend(files) or put(self, files))
    monkeypatch.setattr(Remote, "get", lambda self, files: sent.extend(files) or get(self, files))
    parent = here.make()
    child = here.make(files={"towers/a.txt": "alpha", "own.txt": "own"}, parent=parent.digest)
    assert sorted(Path(name).name for name in sent) == ["a.txt", "b.txt", "own.txt"]
    assert [path.read_text() for path in here.remote(f"{child.digest}/files-*/towers/a.txt")] == ["alpha"]
    sent.clear()
    found, child = there.find(), there.find(parent=parent.digest)
    assert sorted(Path(name).name for name in sent) == ["a.txt", "b.txt", "own.txt"]
    assert child.file("towers/a.txt").stat().st_ino == found.file("a.txt").stat().st_ino
    assert verify(child)


def test_a_parent_that_is_not_there_or_is_damaged_here_is_no_help(here, there):
    parent = ArtefactStore(here.home).create("dataset", {}, {"a": 1})
    with parent as (draft, ref):
        draft.file("a.txt").write_text("alpha")  # made before there was a storage
    here.make(files={"a.txt": "alpha"}, parent=ref.digest)
    here.find()
    found = there.find()
    found.file("a.txt").write_text("alphA")
    assert verify(there.find(parent=ref.digest))
