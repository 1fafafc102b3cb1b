"""The command line's frame: the commands together, and every failure told in one paragraph."""

from __future__ import annotations

import json
import sys
import traceback
from typing import NoReturn

import typer

from flows.cli import look, models, nights, service

app = typer.Typer(
    name="marquee",
    help="Nightly recommendations for a film and TV service: `marquee nightly` does it all.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (nights, look, models, service):
    module.register(app)


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and exit with its code (docs/ARCHITECTURE.md lists them)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and give its exit code. Nothing is raised."""
    as_json = "--json" in arguments
    try:
        result = app(arguments or ["--help"], prog_name="marquee", standalone_mode=False)
    except typer.TyperException as error:  # what typer refuses: unknown options, missing arguments
        return _fail(_usage_paragraph(error), 2, as_json)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("Stopped. What was served is untouched.", 1, as_json)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        return _told(error, as_json)
    return result if isinstance(result, int) else 0


def _told(error: Exception, as_json: bool) -> int:
    from recsys.errors import MarqueeError

    where = " ".join(getattr(error, "__notes__", ()))  # a run's log, which has the traceback
    if isinstance(error, MarqueeError):
        return _fail(f"{error} {where}", error.exit_code, as_json)
    if not where:
        from flows.cli.session import keep_traceback

        where = keep_traceback("".join(traceback.format_exception(error)))
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return _fail(f"Unexpected: {text}. What was served is untouched. {where}", 1, as_json)


def _usage_paragraph(error: typer.TyperException) -> str:
    from flows.cli.session import command_path

    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}. See `{command_path(error)} --help`."


def _fail(text: str, code: int, as_json: bool) -> int:
    text = " ".join(text.split())
    print(text, file=sys.stderr)
    if as_json:
        print(json.dumps({"error": text, "exit_code": code}, ensure_ascii=False))
    return code
