"""What comes next is made while the present is worked on: by a thread beside a trainer, or by all of a pool."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
Made = TypeVar("Made")

_END = object()


def ahead(values: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same values in the same order, made by a thread up to ``depth`` of them early.

    What making one raises is raised here in its place. When the consumer stops, so does the thread.
    """
    made: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def put(value: Any) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put(value, timeout=0.1)
                return

    def work() -> None:
        try:
            for value in values:
                put((value, None))
                if stopped.is_set():
                    return
            put((_END, None))
        except BaseException as error:  # the consumer is who can tell what it means
            put((_END, error))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            value, error = made.get()
            if error is not None:
                raise error
            if value is _END:
                return
            yield value
    finally:
        stopped.set()
        thread.join()


def in_order(pool: Executor, work: Callable[[T], Made], given: Iterable[T], depth: int) -> Iterator[Made]:
    """What ``work`` makes of each that is given, in order; ``depth`` of them are begun before they are asked for.

    What ``work`` raises is raised here at its turn. When the consumer stops, what was not begun never is.
    """
    coming = iter(given)
    running: deque[Future[Made]] = deque(pool.submit(work, one) for one in islice(coming, depth))
    try:
        while running:
            made = running.popleft().result()
            running.extend(pool.submit(work, one) for one in islice(coming, 1))
            yield made
    finally:
        for future in running:
            future.cancel()
