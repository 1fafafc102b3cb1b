"""The Prefect server that a command's run reports to: one that is there, else one of its own for as long as it runs.

A server of our own is started in the background at once, so that it comes up while the heavy libraries are imported.
Must not import Prefect: that reads the environment once, when it is first imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows import servers
from flows.settings import prefect_api_url, use_prefect_api

START_SECONDS = 120.0
DRAIN_SECONDS = 5.0
_DIE_WITH_PARENT = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG: SIGTERM when the command is gone, whatever killed it
except (OSError, AttributeError):
    pass
os.execv(sys.executable, [sys.executable, "-m", "uvicorn", *sys.argv[1:]])
"""


class PrefectServer:
    """Where a run reports to, once it answers."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
        self.url = url
        self._process = process
        self._log = log

    def fault(self) -> str | None:
        """Wait until the server answers; None, or why it cannot be used."""
        deadline = time.monotonic() + (START_SECONDS if self._process else 0.0)
        while not servers.answers(f"{self.url}/health"):
            if self._process is None:
                return f"The Prefect server at {self.url} does not answer"
            if self._process.poll() is not None:
                return f"Prefect's server ended while it started (see {self._log})"
            if time.monotonic() > deadline:
                return f"Prefect's server did not come up in {START_SECONDS:.0f} s (see {self._log})"
            time.sleep(0.2)
        return None

    def deliver(self) -> None:
        """Let Prefect deliver the log lines and events that it still has, before its server goes."""
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        for worker in (APILogWorker, EventsWorker):
            with suppress(Exception):  # the server may be gone already
                worker.drain_all(timeout=DRAIN_SECONDS)


@contextmanager
def prefect_server(home: Path) -> Iterator[PrefectServer]:
    """Point Prefect at the server that the environment names, else that of `marquee up`, else one of our own."""
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    known = prefect_api_url() or _of_up(home)
    if known is not None:
        use_prefect_api(known.rstrip("/"))
        yield PrefectServer(known.rstrip("/"))
        return
    url, process, log = _start(home)
    use_prefect_api(url)
    try:
        yield PrefectServer(url, process, log)
    finally:
        use_prefect_api(None)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()


def _of_up(home: Path) -> str | None:
    server = servers.running(home).get(servers.PREFECT)
    return f"{server.url}/api" if server else None


def _start(home: Path) -> tuple[str, subprocess.Popen[bytes], Path]:
    port = servers.any_free_port()
    log = home / "logs" / "prefect-server.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _DIE_WITH_PARENT, "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", servers.HOST, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    environment = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the command; it ends its server itself
        )
    return f"http://{servers.HOST}:{port}/api", process, log
