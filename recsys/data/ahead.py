"""Work done ahead by other threads, and had in the order in which it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(pool: Executor, work: Callable[[Given], Made], given: Iterable[Given], ahead: int) -> Iterator[Made]:
    """What ``work`` makes of each that is given, in order; ``ahead`` of them are begun before they are asked for."""
    coming = iter(given)
    running: deque[Future[Made]] = deque(pool.submit(work, one) for one in islice(coming, ahead))
    while running:
        made = running.popleft().result()
        running.extend(pool.submit(work, one) for one in islice(coming, 1))
        yield made
