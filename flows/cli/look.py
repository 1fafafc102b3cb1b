"""The commands that look at what is published, and put the previous publication back."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.session import ConfigOption, HomeOption, JsonOption, start

if TYPE_CHECKING:
    from pydantic import BaseModel

LengthOption = Annotated[int | None, typer.Option("--n", min=1, help="Only the first so many.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (recommend, similar, rollback):
        app.command()(command)


def recommend(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id, as the source has it.")],
    n: LengthOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Show a user's published list: titles, scores, why."""
    from recsys.look import recommended

    _show(recommended, user, n, config, home, json)


def similar(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The title's id, as the source has it.")],
    n: LengthOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the titles published as similar to one."""
    from recsys.look import similar_to

    _show(similar_to, item, n, config, home, json)


def _show(
    look_up: Callable[[Path, str], BaseModel],
    key: str,
    n: int | None,
    config: Path | None,
    home: Path | None,
    json: bool,
) -> None:
    from flows.display import output
    from flows.views import list_view

    session = start(config, home, json)
    shown = look_up(session.home, key).model_dump(mode="json")
    shown["lines"] = shown["lines"][:n]
    session.show(shown, lambda: list_view(output(), shown))


def rollback(config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False) -> None:
    """Serve the previous publication again."""
    from flows.display import output
    from flows.views import record_view
    from recsys import lock
    from recsys.publish.files import FileSink
    from recsys.publish.remote import rollback as put_back
    from recsys.storage import Remote

    session = start(config, home, json)
    run_id = f"rollback-{os.getpid()}"
    with lock.hold(session.home, run_id):
        fence = partial(lock.fence, session.home, run_id)
        pointer = put_back(FileSink(session.home), Remote.of(session.config.storage), fence)
    shown = pointer.model_dump(mode="json", exclude={"previous"})
    session.show(shown, lambda: record_view(output(), shown))
