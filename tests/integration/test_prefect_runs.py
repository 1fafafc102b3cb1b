"""Flows started from the command line, in processes of their own: with Prefect, and with Prefect going or gone."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recsys import lock

MARQUEE = Path(sys.executable).with_name("marquee")
NOWHERE = "http://127.0.0.1:9/api"

pytestmark = pytest.mark.server


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A made-up service, a user's home that nothing may be written to, and no Prefect server known."""
    (tmp_path / "user").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "PREFECT_", "XDG_"))}
    source = {"KIND": "synthetic", "USERS": "40", "ITEMS": "60", "INTERACTIONS": "1000"}
    return {
        **clean,
        **{f"MARQUEE_SOURCE__{key}": value for key, value in source.items()},
        "MARQUEE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path / "user"),
    }


def _marquee(environment: dict[str, str], *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MARQUEE, *arguments], env={**environment, **more}, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_flow_is_recorded_by_prefect_and_leaves_nothing_behind(tmp_path: Path, environment: dict[str, str]) -> None:
    done = _marquee(environment, "ingest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "ingest: done" in done.stdout
    assert "dataset " in done.stdout

    home = tmp_path / "home"
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        runs = database.execute("select state_type from flow_run").fetchall()
        artefacts = database.execute("select count(*) from log where message like '%ingest: done%'").fetchone()
    assert runs == [("COMPLETED",)]
    assert artefacts[0] >= 1
    assert list((tmp_path / "user").rglob("*")) == []
    servers = [p for p in psutil.process_iter(["environ"]) if str(home) in str((p.info["environ"] or {}).values())]
    assert servers == []


def test_without_prefects_server_the_work_is_done_and_that_is_said(tmp_path: Path, environment: dict[str, str]) -> None:
    missing = _marquee(environment, "validate", PREFECT_API_URL=NOWHERE)
    assert missing.returncode == 2
    assert "there is no dataset artefact yet. Run `marquee ingest` first" in missing.stderr
    assert missing.stderr.count("\n") == 1

    first = _marquee(environment, "ingest", PREFECT_API_URL=NOWHERE)
    assert first.returncode == 0, first.stderr
    assert f"The Prefect server at {NOWHERE} does not answer" in first.stdout
    again = _marquee(environment, "ingest", PREFECT_API_URL=NOWHERE)
    assert "ingest: reused" in again.stdout

    with lock.hold(tmp_path / "home", "somebody"):
        refused = _marquee(environment, "ingest", PREFECT_API_URL=NOWHERE)
    assert refused.returncode == 4
    assert "already held by run somebody" in refused.stderr


def test_a_server_that_dies_amid_the_run_changes_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    process = _started(environment)
    (server,) = (child for child in psutil.Process(process.pid).children() if "uvicorn" in child.cmdline())
    server.kill()
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    assert "dataset " in output
    assert "Prefect failed after the work was done" in output or "Prefect could not be used" in output
    assert errors == ""


def test_sigterm_stops_within_seconds_and_frees_the_lock(tmp_path: Path, environment: dict[str, str]) -> None:
    process = _started(environment)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert process.returncode == 1
    assert "Stopped by SIGTERM: what was served is untouched" in errors
    assert lock.holder_of(tmp_path / "home") is None
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def _started(environment: dict[str, str]) -> subprocess.Popen[str]:
    """An ingestion of some length, under way."""
    process = subprocess.Popen(
        [MARQUEE, "ingest"],
        env={**environment, "MARQUEE_SOURCE__USERS": "20000", "MARQUEE_SOURCE__INTERACTIONS": "600000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ingest: started\n"
    return process
