"""The commands that run something: the night, and its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.session import ConfigOption, HomeOption, JsonOption, Session, start

if TYPE_CHECKING:
    from flows.engine import Outcome

KEPT = 3
"""Exit code where the gate kept the champion: its fresh list is published."""

DigestArgument = Annotated[str | None, typer.Argument(metavar="DIGEST", help="Its digest, or the start of it.")]
RunDateOption = Annotated[
    datetime | None,
    typer.Option("--run-date", formats=["%Y-%m-%d"], help="The night that the lists are for (default: today, UTC)."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (nightly, ingest, validate, train, export):
        app.command()(command)


def nightly(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and what reused.")] = False,
    run_date: RunDateOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> int:
    """Run the whole night: ingest, validate, train, decide, publish."""
    session = start(config, home, json)
    if dry_run:
        return _plan(session, run_date)
    outcome = _run("flows.nightly", "nightly", session, run_date=_iso(run_date))
    _show_night(session, outcome)
    return _exit_code(outcome)


def ingest(config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False) -> int:
    """Bring the source's ratings and titles into one dataset."""
    return _part("ingest", start(config, home, json))


def validate(
    dataset: DigestArgument = None, config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False
) -> int:
    """Check a dataset (the latest, or a named one) and put bad rows aside."""
    return _part("validate", start(config, home, json), dataset=dataset)


def train(
    validated: DigestArgument = None, config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False
) -> int:
    """Train on a validated dataset (the latest, or a named one), decide, register the winner."""
    return _part("train", start(config, home, json), validated=validated)


def export(
    model: DigestArgument = None,
    run_date: RunDateOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> int:
    """Write, audit and publish the lists with a model that is there (the one that serves, or a named one)."""
    return _part("export", start(config, home, json), model=model, run_date=_iso(run_date))


def _run(module: str, name: str, session: Session, **parameters: Any) -> Outcome:
    """Run a flow in this process, shown as it goes."""
    from flows.display import output, showing
    from flows.prefect_server import prefect_server
    from flows.stopping import stoppable
    from recsys import lock

    lock.check_free(session.home)  # before anything takes its time to start
    given = {"home": str(session.home), "config_file": _text(session.config_file), **parameters}
    given = {key: value for key, value in given.items() if value is not None}
    console = output(error=session.as_json)
    with stoppable(), prefect_server(session.home) as server:
        with console.status("Starting: Prefect's server, and the libraries …"):
            flow = getattr(import_module(module), name)
            fault = server.fault()
        from flows.engine import launch
        from flows.logs import command_log

        with command_log(session.home / "logs" / "marquee.txt"), showing(console):
            try:
                return launch(flow, given, without_prefect=fault)
            finally:
                server.deliver()


def _part(name: str, session: Session, **parameters: Any) -> int:
    from flows.display import output
    from flows.views import part_view

    outcome = _run("flows.parts", name, session, **parameters)
    session.show(outcome.result, lambda: part_view(output(), outcome))
    return _exit_code(outcome)


def _exit_code(outcome: Outcome) -> int:
    from flows.report import kept

    return KEPT if kept(outcome.result) else 0


def _show_night(session: Session, outcome: Outcome) -> None:
    from flows.display import output
    from flows.views import night_view

    session.show(outcome.result, lambda: night_view(output(), outcome))


def _plan(session: Session, run_date: datetime | None) -> int:
    from flows.display import output
    from flows.plan import plan_of
    from flows.views import plan_view

    plan = plan_of(session.config, run_date.date() if run_date else datetime.now(UTC).date())
    session.show([step.__dict__ for step in plan], lambda: plan_view(output(), plan))
    return 0


def _iso(moment: datetime | None) -> str:
    """The night's date: settled once, so that a run across midnight stays one night."""
    return (moment or datetime.now(UTC)).date().isoformat()


def _text(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None
