"""The command line's frame: help that comes at once, and every failure in one paragraph with its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.app import run

COMMANDS = (  # noqa: SIM905
    "nightly ingest validate train export recommend similar runs compare promote rollback evaluate synth up down doctor"
).split()
HEAVY = {"prefect", "mlflow", "torch", "pandas", "pyarrow", "great_expectations", "duckdb", "numpy"}


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """Commands prepare the environment of their process: here that is everybody's."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom flows.cli.app import run\ncode = run(['--help'])\n"
        f"heavy = sorted({HEAVY!r} & set(sys.modules))\nprint('HEAVY', heavy)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--config", "--home", "--json"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "No such command 'nope'. See `marquee --help`."),
        (["recommend"], "Missing argument 'USER'. See `marquee recommend --help`."),
        (["nightly", "--fast"], "No such option: --fast"),
        (["nightly", "--run-date", "yesterday"], "--run-date"),
        (["doctor", "--config", "none.toml"], "none.toml: the configuration file cannot be read"),
        (["recommend", "1"], "nothing is published yet"),
        (["similar", "1"], "nothing is published yet"),
    ],
)
def test_usage_faults_exit_2_with_one_paragraph(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)] if arguments[0] != "nope" and "--fast" not in arguments else []
    assert run([*arguments, *home]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_json_is_alone_on_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recommend", "1", "--home", str(tmp_path), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 2
    assert "nothing is published yet" in told["error"]
    assert run(["down", "--home", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ended": []}


def test_nothing_to_roll_back_to_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollback", "--home", str(tmp_path)]) == 1
    assert "there is no previous publication" in capsys.readouterr().err


def test_what_was_not_foreseen_is_one_paragraph_and_a_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "servers").write_text("a file where a directory should be")
    assert run(["up", "--home", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Unexpected: FileExistsError")
    assert told.count("\n") == 1
    assert "Traceback" in (tmp_path / "logs" / "errors.txt").read_text()


def test_synth_writes_the_service_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--users", "20", "--titles", "30", "--ratings", "200", "--seed", "1"]
    assert run(["synth", str(tmp_path / "out"), *size, "--home", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)
    assert len(Path(files["ratings"]).read_text().splitlines()) == 201
    assert len(Path(files["titles"]).read_text().splitlines()) == 31


def test_doctor_tells_and_exits_0_on_a_machine_that_runs_the_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--home", str(tmp_path), "--json"]) == 0
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["Python"]["status"] == "ok"
    assert findings["fastapi"]["status"] == "ok"
    assert findings["home"]["found"] == f"{tmp_path} can be written"


def test_doctor_exits_1_where_home_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["doctor", "--home", str(tmp_path / "file" / "home"), "--json"]) == 1
    faults = [f for f in json.loads(capsys.readouterr().out) if f["status"] == "fault"]
    assert [fault["name"] for fault in faults] == ["home"]
    assert faults[0]["remedy"] == "name another with --home"
