"""Makes what comes next while the present is worked on: a loader of batches beside the trainer."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

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
