"""The servers beside the nights: Prefect with its UI, MLflow, a worker. Started in the background, ended exactly.

``<home>/servers/servers.json`` records what was started: the process's number *and* when it began, so that a number
that the system has given away again is never taken for ours.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.settings import CONFIG_VARIABLE, tracking_uri
from recsys.artefacts import write_text
from recsys.config import Config
from recsys.errors import MarqueeError, UsageError

HOST = "127.0.0.1"
PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
POOL = "marquee"
START_SECONDS = 180.0
STOP_SECONDS = 15.0


class Server(BaseModel):
    """A process that we started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    began: float
    """When the process was created, in seconds since 1970, as the system tells it."""
    url: str | None
    log: str

    def alive(self) -> bool:
        """Whether this very process still runs."""
        process = _process(self.pid)
        return process is not None and abs(process.create_time() - self.began) < 1 and process.status() != "zombie"


class Servers(BaseModel):
    """Everything that `marquee up` started for a home."""

    model_config = ConfigDict(extra="forbid")

    servers: dict[str, Server] = {}


def running(home: Path) -> dict[str, Server]:
    """Those of the home's servers that are alive."""
    return {name: server for name, server in _read(home).servers.items() if server.alive()}


def addresses(home: Path) -> dict[str, str]:
    """What to open in a browser, by name."""
    names = {PREFECT: "Prefect", MLFLOW: "MLflow"}
    return {names[name]: server.url for name, server in running(home).items() if name in names and server.url}


def up(
    config: Config,
    config_file: Path | None,
    *,
    prefect_port: int = 4200,
    mlflow_port: int = 5000,
    deployments: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Server]:
    """Start what does not run yet, wait until each answers, register the deployments.

    Raises:
        UsageError: there is no prefect.yaml to read deployments from.
        MarqueeError: a server did not come up; its log is named.
    """
    home = config.home
    folder = home / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    deployments = deployments or deployments_file()
    with FileLock(folder / "lock"):
        known = running(home)
        fresh = PREFECT not in known or WORKER not in known
        if PREFECT not in known:
            known[PREFECT] = _start_prefect(home, free_port(prefect_port, say))
            _write(home, known)
        if MLFLOW not in known and not _is_remote(config):
            known[MLFLOW] = _start_mlflow(config, free_port(mlflow_port, say))
            _write(home, known)
        _wait_for(known[PREFECT], "/api/health", "Prefect", say)
        if MLFLOW in known:
            _wait_for(known[MLFLOW], "/health", "MLflow", say)
        if fresh:
            environment = _worker_environment(config, config_file, known[PREFECT])
            say("registering the deployments")
            _register(folder, deployments, environment)
            known[WORKER] = _spawn(
                home, WORKER, _prefect("worker", "start", "--pool", POOL, "--name", "marquee"), environment
            )
            _write(home, known)
            _wait_for_worker(known[PREFECT], known[WORKER], say)
    return known


def down(home: Path) -> dict[str, Server]:
    """End what `up` started and still runs, whole process groups, and forget it. Gives what was ended."""
    if not (home / "servers").is_dir():
        return {}
    with FileLock(home / "servers" / "lock"):
        ended = running(home)
        for name in (WORKER, MLFLOW, PREFECT):
            if name in ended:
                _end(ended[name])
        _write(home, {})
    return ended


def free_port(wanted: int, say: Callable[[str], None] = lambda _: None) -> int:
    """The wanted port, or the next free one above it."""
    for port in range(wanted, min(wanted + 200, 65_536)):
        if port_is_free(port):
            if port != wanted:
                say(f"port {wanted} is taken: using {port}")
            return port
    raise MarqueeError(f"no port is free from {wanted} on", where=HOST, remedy="name another with --prefect-port")


def any_free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(url: str, seconds: float = 3.0) -> bool:
    """Whether something answers there, well."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:
            return bool(response.status < 400)
    except (OSError, ValueError):
        return False


def deployments_file() -> Path:
    """``deploy/prefect.yaml`` of the checkout, or as it was installed.

    Raises:
        UsageError: it is in neither place.
    """
    places = (
        Path(__file__).parents[1] / "deploy" / "prefect.yaml",
        Path(sys.prefix, "share", "marquee", "prefect.yaml"),
    )
    for place in places:
        if place.is_file():
            return place
    raise UsageError("deploy/prefect.yaml is missing", where=str(places[0]), remedy="restore it from the repository")


def _is_remote(config: Config) -> bool:
    return tracking_uri(config).startswith(("http://", "https://", "databricks"))


def _start_prefect(home: Path, port: int) -> Server:
    url = f"http://{HOST}:{port}"
    environment = {"PREFECT_API_URL": f"{url}/api", "PREFECT_SERVER_UI_API_URL": f"{url}/api"}
    return _spawn(home, PREFECT, _prefect("server", "start", "--host", HOST, "--port", str(port)), environment, url)


def _start_mlflow(config: Config, port: int) -> Server:
    uri = tracking_uri(config)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri]
    command += ["--artifacts-destination", str(config.home / "mlflow" / "artifacts"), "--serve-artifacts"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return _spawn(config.home, MLFLOW, command, environment, f"http://{HOST}:{port}")


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


def _worker_environment(config: Config, config_file: Path | None, prefect: Server) -> dict[str, str]:
    """What the worker's runs find: the same home and file as this command, and the server."""
    environment = {"PREFECT_API_URL": f"{prefect.url}/api", "MARQUEE_HOME": str(config.home)}
    if config_file is not None:
        environment[CONFIG_VARIABLE] = str(config_file.absolute())
    return environment


def _spawn(
    home: Path, name: str, command: Sequence[str], environment: Mapping[str, str], url: str | None = None
) -> Server:
    log = home / "servers" / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,  # it outlives this command, and its whole group can be ended
        )
    return Server(pid=process.pid, began=psutil.Process(process.pid).create_time(), url=url, log=str(log))


def _register(folder: Path, deployments: Path, environment: Mapping[str, str]) -> None:
    """Create the work pool and the deployments."""
    everything = {**os.environ, **environment, "PWD": str(Path.cwd())}  # deploy/prefect.yaml names PWD
    for command in (
        _prefect("work-pool", "create", POOL, "--type", "process", "--overwrite"),
        _prefect("deploy", "--all", "--prefect-file", str(deployments)),
    ):
        with (folder / "deploy.log").open("ab") as log:
            done = subprocess.run(
                command, env=everything, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode != 0:
            raise MarqueeError(
                f"the deployments could not be registered (`prefect {command[4]}` exited {done.returncode})",
                where=str(folder / "deploy.log"),
                remedy="read that log; `marquee down` ends what was started",
            )


def _wait_for(server: Server, path: str, name: str, say: Callable[[str], None]) -> None:
    say(f"waiting for {name} at {server.url}")
    _wait(lambda: answers(f"{server.url}{path}"), server, name)


def _wait_for_worker(prefect: Server, worker: Server, say: Callable[[str], None]) -> None:
    say("waiting for the worker")
    _wait(lambda: _worker_is_online(f"{prefect.url}/api/work_pools/{POOL}/workers/filter"), worker, "the worker")


def _worker_is_online(url: str) -> bool:
    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return b'"ONLINE"' in response.read()
    except OSError:
        return False


def _wait(ready: Callable[[], bool], server: Server, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if not server.alive():
            raise MarqueeError(f"{name} ended while it started", where=server.log, remedy="read that log")
        if time.monotonic() > deadline:
            raise MarqueeError(
                f"{name} does not answer after {START_SECONDS:.0f} s", where=server.log, remedy="read that log"
            )
        time.sleep(0.3)


def _end(server: Server) -> None:
    """End a process, its group, and what it started in groups of its own (a worker's flow runs)."""
    process = psutil.Process(server.pid)
    family = [process, *process.children(recursive=True)]
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGTERM)
    _, left = psutil.wait_procs([process], timeout=STOP_SECONDS)
    for member in family:
        with suppress(psutil.Error):
            member.terminate()
    _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for member in left:
        with suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _file(home: Path) -> Path:
    return home / "servers" / "servers.json"


def _read(home: Path) -> Servers:
    try:
        return Servers.model_validate_json(_file(home).read_bytes())
    except (OSError, ValidationError):  # never started, or home is no directory
        return Servers()


def _write(home: Path, servers: Mapping[str, Server]) -> None:
    write_text(_file(home), Servers(servers=dict(servers)).model_dump_json(indent=1) + "\n")
