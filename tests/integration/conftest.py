"""A real S3 server for the session: SeaweedFS on the loopback."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from benchmarks.object_server import ObjectServer, object_server
from recsys.config import StorageConfig


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """The server; ended with the session."""
    with object_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> StorageConfig:
    """A folder of the test's own there, and the credentials in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return StorageConfig(url=f"s3://bucket/{uuid4().hex[:12]}", endpoint=s3_server.endpoint)
