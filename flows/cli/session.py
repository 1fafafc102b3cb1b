"""What every command starts with (configuration, environment) and ends with (JSON, or something to read)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recsys.config import Config

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration (TOML). Without one: the defaults.")
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Where everything is written (default ./.marquee).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on the standard output.")]

_traceback_file = Path(".marquee", "logs", "errors.txt")


@dataclass(frozen=True)
class Session:
    """One command's surroundings."""

    config: Config
    config_file: Path | None
    as_json: bool

    @property
    def home(self) -> Path:
        """Everything lies under it."""
        return self.config.home

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep what libraries log from the terminal: it goes to a file under home."""
        import prefect  # noqa: F401 - sets up logging, as it is first imported: before the terminal is taken away

        from flows.logs import command_log

        with command_log(self.home / "logs" / "marquee.txt"):
            yield

    def show(self, data: Any, view: Callable[[], None]) -> None:
        """Print the data as JSON where that is wanted, else let the view print it."""
        if self.as_json:
            print(json.dumps(_plain(data), indent=1, ensure_ascii=False, default=str))
        else:
            view()


def start(config: Path | None, home: Path | None, as_json: bool, **overrides: Any) -> Session:
    """Load the configuration and prepare the environment, before any of the libraries is imported.

    Raises:
        ConfigError: the configuration is at fault.
    """
    global _traceback_file  # noqa: PLW0603
    from flows.settings import config_file, load_config, prepare_environment

    loaded = load_config(config, home, overrides)
    _traceback_file = loaded.home / "logs" / "errors.txt"
    prepare_environment(loaded)
    return Session(loaded, config_file(config), as_json)


def keep_traceback(text: str) -> str:
    """Write an unexpected failure's traceback down; says where it is."""
    try:
        _traceback_file.parent.mkdir(parents=True, exist_ok=True)
        with _traceback_file.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
    except OSError as error:
        return f"The traceback could not be kept: {error}."
    return f"The traceback is in {_traceback_file}."


def command_path(error: Exception) -> str:
    """The command that typer refused, such as ``marquee recommend``."""
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "marquee"


def _plain(data: Any) -> Any:
    if hasattr(data, "model_dump"):
        return data.model_dump(mode="json")
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return data
