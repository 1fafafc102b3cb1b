"""SeaweedFS on the loopback: a real S3 server (signatures, multipart uploads, consistent listing) out of a wheel.

For tests and benchmarks of object storage. It listens on 127.0.0.1 only, asks for credentials, reports to nobody, and
is ended by its process id.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import s3fs

HOST = "127.0.0.1"
WEED = Path(sys.executable).with_name("weed")
BUCKET = "bucket"
ACCESS_KEY, SECRET_KEY = "marquee", "only-for-the-loopback"
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
          "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")  # fmt: skip
_START_SECONDS = 60


@dataclass
class ObjectServer:
    """A running server, and how to reach it."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What a client finds its credentials in."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stop(self) -> None:
        """End it, by its process id, at once: nobody wants what it holds."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    """Run a server on free ports with its data under a folder.

    Raises:
        RuntimeError: it does not answer.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    log = (folder / "log.txt").open("wb")
    server = ObjectServer(
        f"http://{HOST}:{ports['s3.port']}",
        subprocess.Popen(
            [
                WEED, "-logtostderr=true", "server", f"-dir={data}", f"-ip={HOST}", f"-ip.bind={HOST}",
                *(f"-{name}={port}" for name, port in ports.items()),
                f"-s3.config={folder / 's3.json'}", "-filer", "-s3", "-s3.iam=false", "-s3.port.iceberg=0",
                "-s3.port.lance=0", f"-filer.localSocket={folder / 'f.sock'}", f"-s3.localSocket={folder / 's.sock'}",
                "-master.telemetry=false", "-master.electionTimeout=1s",
                "-master.volumeSizeLimitMB=256", "-volume.max=100",
            ],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)},
        ),
    )  # fmt: skip
    log.close()
    try:
        _await(server, folder / "log.txt")
        client = {"key": ACCESS_KEY, "secret": SECRET_KEY, "endpoint_url": server.endpoint}
        s3fs.S3FileSystem(**client, skip_instance_cache=True).mkdir(BUCKET)
        yield server
    finally:
        server.stop()


def _await(server: ObjectServer, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            urllib.request.urlopen(server.endpoint, timeout=2).close()
        except urllib.error.HTTPError as answer:
            if answer.code == 403:  # it is up, and asks who we are
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the object server does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _free_ports(n: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt), object_server(Path(sys.argv[1])) as running:
        print(running.endpoint, *(f"{name}={value}" for name, value in running.environment.items()), flush=True)
        running.process.wait()
