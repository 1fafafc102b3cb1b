"""A run's log: everything that any library says goes into its file, nothing of it to the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.narration import sentence
from tasks.events import Event, RowsDone, listening

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LOUD_ON_THEIR_OWN = ("", "prefect._internal", "mlflow", "alembic", "uvicorn", "fastapi")

logger = logging.getLogger("marquee")


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Write the log, and the run's events, to a file for the length of the block."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.captureWarnings(True)
    logger.setLevel(logging.INFO)
    logger.propagate = True  # Prefect turns that off where it ships the logger's lines to its server
    root = logging.getLogger()
    with _terminals_out(), listening(_note_down):
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()


@contextmanager
def _terminals_out() -> Iterator[None]:
    """Take away the handlers that write to the terminal, and put them back afterwards."""
    taken: list[tuple[logging.Logger, logging.Handler]] = []
    for name in _LOUD_ON_THEIR_OWN:
        log = logging.getLogger(name)
        for handler in list(log.handlers):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                log.removeHandler(handler)
                taken.append((log, handler))
    try:
        yield
    finally:
        for log, handler in taken:
            log.addHandler(handler)


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
