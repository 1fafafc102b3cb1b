import threading

import pytest
import torch
from threadpoolctl import threadpool_info

from recsys.parallel import on_all_threads


def test_results_come_in_order_from_several_threads():
    meet = threading.Barrier(2, timeout=30)

    def work(number: int) -> int:
        meet.wait()  # two are at work at the same time, or this breaks
        return number * number

    assert list(on_all_threads(work, range(6), threads=2)) == [0, 1, 4, 9, 16, 25]


def test_blocks_are_taken_only_a_little_ahead():
    taken = []

    def blocks():
        for number in range(100):
            taken.append(number)
            yield number

    results = on_all_threads(lambda number: number, blocks(), threads=2)
    assert next(results) == 0
    assert len(taken) == 3
    results.close()


def test_a_failure_comes_at_its_turn():
    def work(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number

    results = on_all_threads(work, range(9), threads=2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_products_have_one_thread_meanwhile_and_theirs_again_after():
    before, torch_before = blas_threads(), torch.get_num_threads()
    seen = list(on_all_threads(lambda _: (set(blas_threads()), torch.get_num_threads()), range(3)))
    assert seen == [({1}, 1)] * 3
    assert (blas_threads(), torch.get_num_threads()) == (before, torch_before)
