"""Blocks of work on all threads at once, their results in order: one thread per block, not many on each product.

Scoring is dense passes and products over blocks of users. Threads inside a product leave the passes between them to one
core; a thread per block uses all of them, needs no waiting, and its bytes don't depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from recsys.ahead import in_order

T = TypeVar("T")
R = TypeVar("R")


def on_all_threads(work: Callable[[T], R], blocks: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """``work`` of every block, in their order.

    Args:
        work: on one block; called from several threads.
        blocks: taken one by one, at most ``threads`` ahead of what has been given out.
        threads: how many blocks at a time (None: as many threads as products would use here).

    Raises:
        Exception: what ``work`` raised, at that block's turn.
    """
    with _single_threaded_products() as usual, ThreadPoolExecutor(threads or usual) as pool:
        yield from in_order(pool, work, blocks, threads or usual)


@contextmanager
def _single_threaded_products() -> Iterator[int]:
    """One thread for each product of matrices, in NumPy and PyTorch; gives how many there were."""
    import torch

    libraries, before = ThreadpoolController(), torch.get_num_threads()
    usual = max((library.num_threads for library in libraries.select(user_api="blas").lib_controllers), default=before)
    torch.set_num_threads(1)
    try:
        with libraries.limit(limits=1, user_api="blas"):
            yield usual
    finally:
        torch.set_num_threads(before)
