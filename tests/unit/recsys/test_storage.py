import sys
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError

from recsys.config import StorageConfig
from recsys.errors import StorageError, UsageError
from recsys.storage import Remote


@pytest.fixture(params=["file", "memory"])
def remote(request, tmp_path) -> Remote:
    return Remote(f"file://{tmp_path}/far" if request.param == "file" else f"memory://{uuid4().hex}/far")


def test_a_file_is_written_read_and_replaced(remote):
    assert remote.read("a/b.json") is None
    remote.write("a/b.json", b"one")
    remote.write("a/b.json", b"two")
    assert remote.read("a/b.json") == b"two"
    assert remote.sizes("a") == {"b.json": 3}


def test_files_go_up_and_come_down(remote, tmp_path):
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "empty").touch()
    remote.put({"d/small": tmp_path / "small", "d/deep/empty": tmp_path / "empty"})
    assert remote.sizes("d") == {"small": 1, "deep/empty": 0}
    assert remote.sizes("nowhere") == {}
    remote.get({"d/small": tmp_path / "back"})
    assert (tmp_path / "back").read_bytes() == b"x"


def test_a_folder_is_removed(remote):
    remote.write("d/one", b"1")
    remote.write("kept", b"1")
    remote.remove("d")
    remote.remove("d")
    assert remote.sizes("d") == {}
    assert remote.read("kept") == b"1"


def test_what_fails_is_one_paragraph_that_names_the_file(remote, tmp_path):
    files = {name: tmp_path / name for name in ("one", "two")}
    with pytest.raises(StorageError, match=r"far/(one|two): it cannot be read on the object storage .*run again"):
        remote.get(files)
    with pytest.raises(StorageError, match=r"far/three: it cannot be written on the object storage \(FileNotFound"):
        remote.put({"three": tmp_path / "three"})


def test_an_address_that_nothing_reads_is_refused(tmp_path):
    with pytest.raises(UsageError, match="url = nonsense://bucket: nothing here reads"):
        Remote("nonsense://bucket").read("a")


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"install marquee\[s3\]"):
        Remote("s3://bucket", endpoint=f"http://{uuid4().hex}").read("a")


def test_the_configured_one():
    assert Remote.of(StorageConfig()) is None
    found = Remote.of(StorageConfig(url="s3://bucket/marquee/"))
    assert found is not None
    assert found.address("a/b") == "s3://bucket/marquee/a/b"
    assert Path(found.address("x")).name == "x"


@pytest.mark.parametrize("field", [{"url": "bucket"}, {"url": "s3://key:secret@bucket"}, {"endpoint": "host:9000"}])
def test_settings_that_are_refused(field):
    with pytest.raises(ValidationError):
        StorageConfig(**field)
