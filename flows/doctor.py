"""What this machine has, what is missing, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from flows import servers
from flows.settings import prefect_api_url
from recsys.config import Config
from recsys.devices import available_cores

Status = Literal["ok", "note", "fault"]

LIBRARIES = ("prefect", "mlflow", "great_expectations", "torch", "pandas", "pyarrow", "duckdb", "numpy", "fastapi")
_REINSTALL = "make setup (or pip install -c constraints.txt -e .)"
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(config: Config) -> list[Finding]:
    """Look at everything that a night needs. Starts nothing, writes only a probe into home."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        _python,
        _libraries,
        _machine,
        lambda: _home(config.home),
        _devices,
        lambda: _servers(config.home),
        lambda: _network(config),
    )
    return [finding for check in checks for finding in check()]


def _python() -> list[Finding]:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} at {sys.executable}"
    return [Finding("Python", "ok" if good else "fault", found, "" if good else "make PYTHON=python3.11 setup")]


def _libraries() -> list[Finding]:
    findings = []
    for name in LIBRARIES:
        try:
            findings.append(_library(name, version(name)))
        except PackageNotFoundError:
            findings.append(Finding(name, "fault", "not installed", _REINSTALL))
    return findings


def _library(name: str, found: str) -> Finding:
    if name == "fastapi" and _release(found) > (0, 150):
        return Finding(name, "fault", f"{found}: Prefect 3.8's server does not work above 0.150", _REINSTALL)
    if name == "torch" and found.partition("+")[0] != "2.13.0":
        return Finding(name, "note", f"{found}: tried with 2.13.0", _REINSTALL)
    return Finding(name, "ok", found)


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _machine() -> list[Finding]:
    cores = available_cores()
    memory = psutil.virtual_memory()
    few = "training takes longer" if cores < 2 else ""
    little = "close what else runs, or use a smaller source" if memory.available < 2 * _GIB else ""
    return [
        Finding("cores", "note" if few else "ok", str(cores), few),
        Finding(
            "memory", "note" if little else "ok",
            f"{memory.available / _GIB:.1f} GiB free of {memory.total / _GIB:.1f}", little,
        ),
    ]  # fmt: skip


def _home(home: Path) -> list[Finding]:
    probe = home / f".probe-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_text("x")
        probe.unlink()
    except OSError as error:
        return [Finding("home", "fault", f"{home}: {error.strerror}", "name another with --home")]
    free = shutil.disk_usage(home).free
    tight = "free some, or name another --home" if free < 2 * _GIB else ""
    return [
        Finding("home", "ok", f"{home} can be written"),
        Finding("disk", "note" if tight else "ok", f"{free / _GIB:.1f} GiB free at home", tight),
    ]


def _devices() -> list[Finding]:
    """CUDA devices as the driver tells them: torch, which knows better, takes seconds to import."""
    if shutil.which("nvidia-smi") is None:
        return [Finding("CUDA", "ok", "no device: training runs on the CPU")]
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    names = [line.strip() for line in told.stdout.splitlines() if line.strip()]
    if told.returncode != 0 or not names:
        return [Finding("CUDA", "note", "nvidia-smi finds no device", "training runs on the CPU until the driver does")]
    return [Finding(f"CUDA {number}", "ok", name) for number, name in enumerate(names)]


def _servers(home: Path) -> list[Finding]:
    findings = []
    running = servers.running(home)
    paths = {servers.PREFECT: "/api/health", servers.MLFLOW: "/health"}
    for name, server in running.items():
        good = server.url is None or servers.answers(f"{server.url}{paths[name]}")
        found = f"{server.url or f'process {server.pid}'}{'' if good else ' does not answer'}"
        findings.append(Finding(name, "ok" if good else "fault", found, "" if good else "marquee down; marquee up"))
    url = prefect_api_url()
    if url and not servers.answers(f"{url.rstrip('/')}/health"):
        findings.append(Finding("PREFECT_API_URL", "fault", f"{url} does not answer", "unset it, or start that server"))
    if not running:
        findings.append(Finding("servers", "ok", "not started; a night needs none (marquee up starts them)"))
        for name, port in (("Prefect's port", 4200), ("MLflow's port", 5000)):
            free = servers.port_is_free(port)
            findings.append(Finding(name, "ok", f"{port} is {'free' if free else 'taken: marquee up takes the next'}"))
    return findings


def _network(config: Config) -> list[Finding]:
    """Whether data can be brought. Only said where the source needs it."""
    if config.source.kind not in ("sample", "movielens") or config.source.path:
        return []
    reached = [host for host in ("files.grouplens.org", "pypi.org") if _reaches(host)]
    if reached:
        return [Finding("internet", "ok", f"reaches {', '.join(reached)}")]
    remedy = "pip's own index may still serve the sample; else set [source] path to a copy on this machine"
    return [Finding("internet", "note", "neither files.grouplens.org nor pypi.org is reached", remedy)]


def _reaches(host: str) -> bool:
    try:
        with socket.create_connection((host, 443), timeout=3):
            return True
    except OSError:
        return False
