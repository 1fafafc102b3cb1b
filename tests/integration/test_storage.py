"""Artefacts and publications on a real S3 server (SeaweedFS on the loopback), and machines that come and go."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.object_server import ObjectServer, object_server
from recsys.artefacts import ArtefactRef, ArtefactStore, file_sha256, verify
from recsys.config import StorageConfig
from recsys.errors import ArtefactError, StorageError
from recsys.publish.files import FileSink, Pointer
from recsys.publish.remote import RemoteExports, publish, rollback
from recsys.remote_artefacts import RemoteArtefacts
from recsys.storage import Remote

pytestmark = pytest.mark.server

NIGHT = date(2026, 11, 24)
PIECES, PIECE_BYTES = 24, 2 << 20

UPLOAD = """
import sys
from pathlib import Path
from recsys.artefacts import ArtefactStore
from recsys.config import StorageConfig
from recsys.remote_artefacts import RemoteArtefacts
home, url, endpoint = sys.argv[1:]
store = ArtefactStore(Path(home), RemoteArtefacts.of(StorageConfig(url=url, endpoint=endpoint, workers=1)))
store.find("dataset", {}, {})
"""


def store_of(home: Path, storage: StorageConfig) -> ArtefactStore:
    return ArtefactStore(home, RemoteArtefacts.of(storage))


def remote_of(storage: StorageConfig) -> Remote:
    remote = Remote.of(storage)
    assert remote is not None
    return remote


def make(store: ArtefactStore, pieces: int = PIECES, size: int = PIECE_BYTES) -> ArtefactRef:
    with store.create("dataset", {}, {}) as (draft, ref):
        for number in range(pieces):
            draft.file(f"parts/{number:02}.bin").write_bytes(hashlib.sha256(b"%d" % number).digest() * (size // 32))
    return ref


def test_an_artefact_goes_there_and_comes_back(tmp_path: Path, s3: StorageConfig) -> None:
    with store_of(tmp_path / "here", s3).create("dataset", {}, {}) as (draft, made):
        draft.file("large.bin").write_bytes(os.urandom(40 << 20))  # in parts
        draft.file("deep/er/small.txt").write_text("small")
        draft.file("empty.txt").touch()
    there = store_of(tmp_path / "there", s3)
    assert there.find("dataset", {}, {"other": 1}) is None
    found = there.find("dataset", {}, {})
    assert found is not None
    assert verify(found) == verify(made)
    assert file_sha256(found.file("large.bin")) == file_sha256(made.file("large.bin"))
    names = remote_of(s3).sizes("artefacts/dataset")
    assert sum(name.endswith("manifest.json") for name in names) == 1
    assert len(names) == 4


def test_an_upload_that_was_killed_goes_on_where_it_stood(tmp_path: Path, s3: StorageConfig) -> None:
    make(ArtefactStore(tmp_path / "here"))
    folder, remote = "artefacts/dataset", remote_of(s3)
    command = [sys.executable, "-c", UPLOAD, str(tmp_path / "here"), str(s3.url), str(s3.endpoint)]
    with subprocess.Popen(command) as child:
        while len(remote.sizes(folder)) < 3:
            assert child.poll() is None, "it ended before it could be killed"
        child.send_signal(signal.SIGKILL)
    arrived = remote.sizes(folder)
    assert 3 <= len(arrived) < PIECES
    assert not any(name.endswith("manifest.json") for name in arrived)
    assert store_of(tmp_path / "there", s3).find("dataset", {}, {}) is None

    times = {name: remote._system.modified(remote.address(f"{folder}/{name}")) for name in arrived}
    time.sleep(1.1)  # the server's clock of objects ticks in seconds
    subprocess.run(command, check=True)
    assert len(remote.sizes(folder)) == PIECES + 1
    assert {name: remote._system.modified(remote.address(f"{folder}/{name}")) for name in arrived} == times
    found = store_of(tmp_path / "there", s3).find("dataset", {}, {})
    assert found is not None
    assert len(verify(found).files) == PIECES


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, s3: StorageConfig) -> None:
    nowhere = s3.model_copy(update={"url": "s3://no-such-bucket/folder"})
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/folder/.* bucket does not exist"):
        make(store_of(tmp_path / "here", nowhere), pieces=1, size=64)


def test_a_damaged_object_is_named_and_refused(tmp_path: Path, s3: StorageConfig) -> None:
    make(store_of(tmp_path / "here", s3), pieces=3, size=1024)
    remote = remote_of(s3)
    (victim,) = (name for name in remote.sizes("artefacts") if name.endswith("01.bin"))
    remote.write(f"artefacts/{victim}", b"x" * 1024)
    with pytest.raises(ArtefactError, match=f"{s3.url}/artefacts/{victim}: the bytes are not those that were written"):
        store_of(tmp_path / "there", s3).find("dataset", {}, {})
    assert not [path for path in (tmp_path / "there").rglob("*") if path.is_file()]


def test_a_server_that_goes_down_costs_the_upload_alone(tmp_path: Path, s3: StorageConfig) -> None:
    with object_server(tmp_path / "server") as server:
        storage = StorageConfig(url="s3://bucket/folder", endpoint=server.endpoint)
        store = store_of(tmp_path / "home", storage)
        store.find("dataset", {}, {})
        server.stop()
        with pytest.raises(StorageError, match=r"manifest.json: it cannot be read on the object storage .*Connect"):
            make(store, pieces=2, size=64)
    stays = ArtefactStore(tmp_path / "home").find("dataset", {}, {})
    assert stays is not None
    assert len(verify(stays).files) == 2
    assert store_of(tmp_path / "home", s3).find("dataset", {}, {}) is not None  # a server is back
    assert store_of(tmp_path / "there", s3).find("dataset", {}, {}) is not None


def lists(home: Path, number: int) -> ArtefactRef:
    with ArtefactStore(home).create("recommendations", {}, {"number": number}) as (draft, ref):
        for part in range(3):
            draft.file(f"recommendations/part-{part:05}.parquet").write_bytes(b"%d" % number * 50_000)
        draft.file("similar_titles/part-00000.parquet").write_bytes(b"%d" % number)
        draft.rows["recommendations"] = number
    return ref


def publish_number(home: Path, remote: Remote, number: int, keep: int = 3) -> None:
    publish(
        FileSink(home), remote, lists(home, number), run_date=NIGHT + timedelta(days=number // 10), users=1,
        model_version="1", run_id=str(number), keep=keep,
    )  # fmt: skip


def whole(remote: Remote, pointer: Pointer) -> bool:
    """Whether a reader finds the generation that a pointer names, to the last byte."""
    folder = pointer.path.removeprefix(f"{remote.url}/")
    names = sorted(name for name in remote.sizes(folder) if name.startswith("part-"))
    found = [hashlib.sha256(remote.read(f"{folder}/{name}") or b"").hexdigest() for name in names]
    return len(names) == 3 and hashlib.sha256("".join(found).encode()).hexdigest() == pointer.digest


def test_a_reader_never_sees_less_than_a_whole_generation(tmp_path: Path, s3: StorageConfig) -> None:
    remote, seen, broken, ended = remote_of(s3), set[str](), list[str](), threading.Event()

    def read() -> None:
        exports = RemoteExports(remote)
        while not ended.is_set():
            pointer = exports.current()
            if pointer is not None:
                seen.add(pointer.run_id)
                broken.extend([] if whole(remote, pointer) else [pointer.run_id])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(50):
            publish_number(tmp_path / "home", remote, number, keep=10)
    finally:
        ended.set()
        reader.join()
    assert broken == []
    assert len(seen) > 20
    parts = [name for name in remote.sizes("exports/top_n") if "/part-" in name]
    assert len(parts) == 10 * 3  # older generations went


def test_rollback_and_a_lost_server(tmp_path: Path, s3: StorageConfig) -> None:
    remote, home = remote_of(s3), tmp_path / "home"
    publish_number(home, remote, 1)
    publish_number(home, remote, 2)
    assert rollback(FileSink(home), remote).run_id == "1"
    served = RemoteExports(remote).current()
    assert served is not None
    assert served.run_id == "1"
    assert whole(remote, served)
    lost = Remote("s3://bucket/elsewhere", endpoint="http://127.0.0.1:9")
    before = FileSink(home).pointer_path.read_bytes()
    with pytest.raises(StorageError, match="what is served is as it was"):
        publish_number(home, lost, 3)
    assert FileSink(home).pointer_path.read_bytes() == before


@pytest.mark.slow
def test_another_machine_takes_over(tmp_path: Path, s3: StorageConfig, s3_server: ObjectServer) -> None:
    """A night is killed on one machine; one with an empty home finishes it; a third finds all of it made."""
    remote = remote_of(s3)
    with subprocess.Popen(
        _nightly(tmp_path / "first"), env=_environment(s3, s3_server), stdout=subprocess.DEVNULL
    ) as run:
        while not any(
            name.startswith("split/") and name.endswith("manifest.json") for name in remote.sizes("artefacts")
        ):
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.1)
        run.send_signal(signal.SIGKILL)
    second = _run(tmp_path / "second", s3, s3_server)
    assert {"ingest", "validate", "split"} <= set(second["reused"])
    third = _run(tmp_path / "third", s3, s3_server)
    made = {stage["stage"] for stage in third["stages"] if stage["artefact"] is not None}
    assert made - set(third["reused"]) == {"register"}  # which enters what was made into this home's registry
    assert {"ingest", "recommend", "evaluate"} <= made
    assert third["served"] == second["served"]
    current = RemoteExports(remote).current()
    assert current is not None
    assert current.generation == third["served"]
    far = {name: remote.read(f"exports/top_n/{name}") for name in remote.sizes("exports/top_n") if "/part-" in name}
    here = tmp_path / "third" / "exports" / "top_n"
    assert far == {path.relative_to(here).as_posix(): path.read_bytes() for path in here.rglob("part-*")}


@pytest.mark.slow
def test_what_a_person_is_told(tmp_path: Path, s3: StorageConfig, s3_server: ObjectServer) -> None:
    nowhere = {"MARQUEE_STORAGE__ENDPOINT": "http://127.0.0.1:9"}
    stranger = {"AWS_SECRET_ACCESS_KEY": "not-the-one"}
    for name, wrong, why in (("a", nowhere, "Could not connect"), ("b", stranger, "PermissionError")):
        done = subprocess.run(
            [*_nightly(tmp_path / name)[:1], "ingest", "--home", str(tmp_path / name)],
            env={**_environment(s3, s3_server), **wrong}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        told = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 1, told
        assert why in told
        assert "Traceback" not in told
        assert "not-the-one" not in told
        assert not (tmp_path / name / "exports").exists()


def _nightly(home: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("marquee")), "nightly", "--home", str(home), "--run-date", str(NIGHT)]


def _environment(s3: StorageConfig, server: ObjectServer) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "PREFECT_"))}
    small = {"SOURCE__KIND": "synthetic", "SOURCE__USERS": "80", "SOURCE__ITEMS": "70", "SOURCE__INTERACTIONS": "3000",
             "AUTOENCODER__EPOCHS": "3", "CONTENT__EPOCHS": "2", "NCF__EPOCHS": "2", "COMPUTE__THREADS": "2",
             "STORAGE__URL": str(s3.url), "STORAGE__ENDPOINT": str(s3.endpoint)}  # fmt: skip
    ours = {f"MARQUEE_{name}": value for name, value in small.items()}
    return {**clean, **server.environment, **ours, "PREFECT_API_URL": "http://127.0.0.1:9/api"}


def _run(home: Path, s3: StorageConfig, server: ObjectServer) -> Any:
    done = subprocess.run(
        _nightly(home), env=_environment(s3, server), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return json.loads((home / "runs" / "latest.json").read_text())
