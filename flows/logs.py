"""A run's log: everything that any library says goes into its file, nothing of it to the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flows.narration import sentence
from tasks.events import Event, RowsDone, listening

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_MOST_BYTES = 2_000_000
_LOUD_ON_THEIR_OWN = ("", "prefect._internal", "mlflow", "alembic", "uvicorn", "fastapi")

logger = logging.getLogger("marquee")


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Write the log, and the run's events, to a file for the length of the block."""
    with to_file(logging.FileHandler(_made(file), encoding="utf-8")), listening(_note_down):
        yield


@contextmanager
def command_log(file: Path) -> Iterator[None]:
    """What is said around runs goes to a file that does not grow for ever."""
    with to_file(RotatingFileHandler(_made(file), maxBytes=_MOST_BYTES, backupCount=1, encoding="utf-8")):
        yield


@contextmanager
def to_file(handler: logging.Handler) -> Iterator[None]:
    """Send every library's log to a handler, and none of it to the terminal, for the length of the block."""
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.captureWarnings(True)
    logger.setLevel(logging.INFO)
    logger.propagate = True  # Prefect turns that off where it ships the logger's lines to its server
    taken = _take_terminals()
    complains, logging.raiseExceptions = logging.raiseExceptions, False  # a dead Prefect server is no news for stderr
    # Prefect's own faults (a line that it could not deliver) do not reach the root logger
    heard = [logging.getLogger(name) for name in ("", "prefect._internal")]
    for log in heard:
        log.addHandler(handler)
    try:
        yield
    finally:
        for log in heard:
            log.removeHandler(handler)
        for log, terminal in taken:
            log.addHandler(terminal)
        logging.raiseExceptions = complains
        handler.close()


def _take_terminals() -> list[tuple[logging.Logger, logging.Handler]]:
    """Remove the handlers that write to the terminal; gives them."""
    taken: list[tuple[logging.Logger, logging.Handler]] = []
    for name in _LOUD_ON_THEIR_OWN:
        log = logging.getLogger(name)
        for handler in list(log.handlers):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                log.removeHandler(handler)
                taken.append((log, handler))
    return taken


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _note_down(event: Event) -> None:
    if not isinstance(event, RowsDone):  # they come by the hundred
        logger.info(sentence(event))


@contextmanager
def logged_only(what: str) -> Iterator[None]:
    """Let a failure of the block pass, with a line and its traceback in the log: for what nothing rests on."""
    try:
        yield
    except Exception:
        logger.warning(what, exc_info=True)
