"""`marquee up`, a run triggered through Prefect, `marquee down`: with the real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import servers

MARQUEE = Path(sys.executable).with_name("marquee")

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose servers are ended whatever the test does."""
    yield tmp_path / "home"
    servers.down(tmp_path / "home")


def _marquee(home: Path, *arguments: str, **more: str) -> Any:
    done = subprocess.run(
        [MARQUEE, *arguments, "--home", str(home), "--json"],
        env={**os.environ, **more}, cwd=home.parent, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _ask(url: str) -> Any:
    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_servers_come_up_carry_out_a_run_and_go(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "marquee.toml"
    config.write_text('[source]\nkind = "files"\nratings = "ratings.csv"\n')  # relative to where `up` was called
    rows = [f"{user},{item},{1 + (user + item) % 5},{1_700_000_000 + item}" for user in range(30) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    ports = ["--prefect-port", str(servers.any_free_port()), "--mlflow-port", str(servers.any_free_port())]
    started = _marquee(home, "up", *ports, "--config", str(config))
    assert set(started) == {"prefect", "mlflow", "worker"}
    api = f"{started['prefect']['url']}/api"

    deployments = {found["name"]: found for found in _ask(f"{api}/deployments/filter")}
    assert set(deployments) == {"nightly", "ingest", "train", "export"}
    (schedule,) = deployments["nightly"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 * * *", "UTC")
    assert all(found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW" for found in deployments.values())
    form = deployments["nightly"]["parameter_openapi_schema"]["properties"]
    assert all(field["description"] for field in form.values())
    assert form["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1000}

    assert _marquee(home, "up", "--config", str(config)) == started  # again: nothing new

    command = [sys.executable, "-m", "prefect", "deployment", "run", "ingest/ingest", "--watch"]
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "client")}
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    (dataset,) = (home / "artefacts" / "dataset").iterdir()
    assert json.loads((dataset / "manifest.json").read_text())["rows"]["ratings"] == 600

    processes = [psutil.Process(server["pid"]) for server in started.values()]
    families = [member for process in processes for member in (process, *process.children(recursive=True))]
    assert sorted(_marquee(home, "down")["ended"]) == ["mlflow", "prefect", "worker"]
    _, alive = psutil.wait_procs(families, timeout=10)
    assert alive == []
    assert _marquee(home, "down") == {"ended": []}


def test_a_process_that_only_has_the_number_of_ours_is_left_alone(tmp_path: Path) -> None:
    stranger = psutil.Process()
    record = servers.Server(pid=stranger.pid, began=stranger.create_time() - 100, url=None, log="")
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "servers.json").write_text(
        servers.Servers(servers={"worker": record}).model_dump_json(), encoding="utf-8"
    )
    assert servers.running(tmp_path) == {}
    assert servers.down(tmp_path) == {}


def test_a_port_that_is_taken_is_passed_over() -> None:
    import socket

    said: list[str] = []
    with socket.socket() as busy:
        busy.bind((servers.HOST, 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert servers.free_port(port, said.append) > port
    assert said[0].startswith(f"port {port} is taken: using ")
