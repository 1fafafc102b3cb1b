"""The commands about the machine and its servers."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.session import ConfigOption, HomeOption, JsonOption, start


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, doctor):
        app.command()(command)


def up(
    prefect_port: Annotated[int, typer.Option("--prefect-port", min=1, max=65_535)] = 4200,
    mlflow_port: Annotated[int, typer.Option("--mlflow-port", min=1, max=65_535)] = 5000,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Start Prefect (with its UI), MLflow and a worker with the nightly schedule, on 127.0.0.1."""
    from flows import servers
    from flows.display import output
    from flows.views import record_view

    session = start(config, home, json)
    console = output(error=session.as_json)
    started = servers.up(
        session.config,
        session.config_file,
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        say=lambda text: console.print(text, markup=False, soft_wrap=True),
    )
    shown = {**servers.addresses(session.home), "worker": f"process {started[servers.WORKER].pid}"}
    shown |= {"start a night": "Prefect > Deployments > nightly, or `marquee nightly`", "end": "marquee down"}
    data = {name: server.model_dump(mode="json") for name, server in started.items()}
    session.show(data, lambda: record_view(console, shown))


def down(config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False) -> None:
    """End what `marquee up` started."""
    from flows import servers
    from flows.display import output

    session = start(config, home, json)
    ended = servers.down(session.home)
    text = f"Ended: {', '.join(ended)}." if ended else "Nothing was running."
    session.show({"ended": sorted(ended)}, lambda: output().print(text, markup=False))


def doctor(config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False) -> int:
    """Say what this machine has, what is missing, and how to mend it. Exits 1 where something is."""
    from flows.display import output, table
    from flows.doctor import examine

    session = start(config, home, json)
    findings = examine(session.config)
    marks = {"ok": "ok", "note": "note", "fault": "FAULT"}
    rows = [
        {"": marks[finding.status], "what": finding.name, "found": finding.found, "how to mend it": finding.remedy}
        for finding in findings
    ]
    session.show([finding.__dict__ for finding in findings], lambda: output().print(table("This machine", rows)))
    return int(any(finding.status == "fault" for finding in findings))
