"""How a flow is carried out: under the lock, with a log, with Prefect or without it, stoppable within seconds.

A chain calls its tasks through :class:`Steps`, so the same chain runs as Prefect tasks (observed, retried) or, where no
Prefect server can be had, as plain calls. What is right rests on artefacts, never on Prefect's state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from flows.logs import logged
from flows.stopping import stoppable
from recsys import lock
from recsys.config import Config
from recsys.errors import MarqueeError
from tasks import engines
from tasks.run import Run

logger = logging.getLogger("marquee")

LOG = "log.txt"
"""A run's log, in its folder."""

Handle = Any
"""What :meth:`Steps.submit` gives: a result to be."""


class Steps(Protocol):
    """How tasks are called."""

    name: str

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a task and wait for its result."""
        ...

    def submit(self, task: Any, *args: Any) -> Handle:
        """Start a task beside this thread."""
        ...

    def gather(self, *handles: Handle) -> tuple[Any, ...]:
        """Wait for every one, failed or not; then give their results, or raise the first failure."""
        ...


class PrefectSteps:
    """Tasks as Prefect runs them. Only inside a flow."""

    name = "prefect"

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """See :class:`Steps`."""
        return task(*args, **kwargs)

    def submit(self, task: Any, *args: Any) -> Handle:
        """See :class:`Steps`."""
        return task.submit(*args)

    def gather(self, *handles: Handle) -> tuple[Any, ...]:
        """See :class:`Steps`."""
        for handle in handles:
            handle.wait()
        return tuple(handle.result() for handle in handles)


class PlainSteps:
    """Tasks as the functions they are; those beside each other in threads."""

    name = "plain"

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """See :class:`Steps`."""
        return task.fn(*args, **kwargs)

    def submit(self, task: Any, *args: Any) -> Handle:
        """See :class:`Steps`."""
        return self._pool.submit(task.fn, *args)

    def gather(self, *handles: Handle) -> tuple[Any, ...]:
        """See :class:`Steps`."""
        wait(handles)
        return tuple(handle.result() for handle in handles)


Chain = Callable[[Run, Steps], dict[str, Any]]
"""A flow's content: calls tasks, and gives what the run came to (for a night: its manifest)."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    run: Run
    result: dict[str, Any]
    error: BaseException | None = None
    note: str | None = None
    """What a person should know of how it ran, such as that no Prefect server was there."""

    @property
    def log(self) -> Path:
        """Where everything was written down."""
        return self.run.folder / LOG


_witness: ContextVar[Callable[[Outcome], None]] = ContextVar("witness", default=lambda _: None)


def perform(chain: Chain, config: Config, run_date: date | None = None) -> dict[str, Any]:
    """Carry out a chain as one run: the body of every flow of ours.

    Raises:
        LockHeldError: another run holds the home's lock.
        MarqueeError: as the chain raised it. Anything else too; the traceback is in the run's log.
    """
    run = new_run(config, run_date)
    with ExitStack() as around:
        try:
            around.enter_context(lock.hold(config.home, run.run_id))
            around.enter_context(logged(run.folder / LOG))
            around.enter_context(stoppable())
            around.callback(engines.end)
            steps = around.enter_context(_steps())
            result = chain(run, steps)
        except BaseException as error:
            logger.exception("the run failed")
            if (run.folder / LOG).is_file():
                error.add_note(f"The run's log is {run.folder / LOG}.")
            _witness.get()(Outcome(run, {}, error=error))
            raise
    _witness.get()(Outcome(run, result))
    return result


def new_run(config: Config, run_date: date | None = None) -> Run:
    """A run of its own, not yet begun."""
    now = datetime.now(UTC)
    return Run(
        run_id=f"{now:%Y%m%d-%H%M%S}-{uuid4().hex[:4]}", run_date=run_date or now.date(), config=config, started_at=now
    )


@contextmanager
def _steps() -> Iterator[Steps]:
    """Prefect's inside one of its flows, else plain ones."""
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is not None:
        yield PrefectSteps()
        return
    with ThreadPoolExecutor(thread_name_prefix="step") as pool:
        yield PlainSteps(pool)


def launch(flow: Any, parameters: dict[str, Any], *, without_prefect: str | None = None) -> Outcome:
    """Run a flow from the command line, as Prefect's if that can be had, else plainly.

    Args:
        flow: one of ours: its body is :func:`perform`.
        parameters: of the flow.
        without_prefect: why Prefect is not to be tried (None: it is).

    Raises:
        Whatever the chain raised, unwrapped.
    """
    if without_prefect is not None:
        return _outcome(flow.fn, parameters, without_prefect)
    outcome, fault = _try(flow, parameters)
    if outcome is not None and outcome.error is None:
        return outcome if fault is None else _noted(outcome, f"Prefect failed after the work was done ({fault})")
    cause = outcome.error if outcome is not None else fault
    if cause is not None and not _is_prefects(cause) and (outcome is not None or isinstance(cause, MarqueeError)):
        raise cause
    return _outcome(flow.fn, parameters, f"Prefect could not be used ({_line(cause)})")


def _try(call: Callable[..., Any], parameters: dict[str, Any]) -> tuple[Outcome | None, BaseException | None]:
    """What the run itself came to (None: it never began), and what was raised around it."""
    outcomes: list[Outcome] = []
    token = _witness.set(outcomes.append)
    fault: BaseException | None = None
    try:
        call(**parameters)
    except Exception as error:
        logger.debug("raised around the run", exc_info=True)
        fault = unwrapped(error)
    finally:
        _witness.reset(token)
    return (outcomes[-1] if outcomes else None), fault


def _outcome(call: Callable[..., Any], parameters: dict[str, Any], why: str) -> Outcome:
    outcome, fault = _try(call, parameters)
    if fault is not None:
        raise fault
    if outcome is None:  # cannot be: perform() tells its witness whatever happens
        raise MarqueeError("the flow ended without a result", where=str(call))
    return _noted(outcome, f"{why}: this run is not in its records; the lists do not depend on it")


def _noted(outcome: Outcome, note: str) -> Outcome:
    logger.warning(note)
    return Outcome(outcome.run, outcome.result, outcome.error, note)


def unwrapped(error: BaseException) -> BaseException:
    """The Marquee error inside whatever wraps it, else the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MarqueeError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _is_prefects(error: BaseException) -> bool:
    return not isinstance(error, MarqueeError) and type(error).__module__.split(".")[0] in (
        "prefect",
        "httpx",
        "httpcore",
    )


def _line(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200] if error else "no reason given"
