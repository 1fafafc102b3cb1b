from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from recsys.ahead import ahead


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_values_come_in_order_and_made_by_another_thread() -> None:
    makers = set()

    def made() -> Iterator[int]:
        for number in range(50):
            makers.add(threading.get_ident())
            yield number

    assert list(ahead(made())) == list(range(50))
    assert threading.get_ident() not in makers


def test_the_next_ones_are_made_while_the_first_is_worked_on() -> None:
    second = threading.Event()

    def made() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    values = ahead(made())
    assert next(values) == 1
    assert second.wait(5), "the second one was not begun before it was asked for"
    assert list(values) == [2]


def test_an_error_is_raised_where_its_value_would_have_been() -> None:
    def made() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    values = ahead(made())
    assert next(values) == 1
    with pytest.raises(KeyError, match="gone"):
        next(values)


def test_a_consumer_that_stops_stops_the_thread() -> None:
    def made() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    values = ahead(made())
    assert next(values) == 0
    time.sleep(0.3)  # the thread waits with a full queue
    values.close()  # type: ignore[attr-defined]
    assert not loaders()
