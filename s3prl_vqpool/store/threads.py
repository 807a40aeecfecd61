"""The number of threads of torch's products, and work that runs side by side on one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Products on ``count`` threads. Another number of threads rounds them differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def side_by_side(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` for ``count`` items at a time, among which torch's threads are shared out.

    For items of small products, which gain little from threads of their own. Each item is worked on by one thread, so
    its result depends on how many threads its products have, not on which item came first. Grad mode is a thread's
    own: set it within the mapped function.
    """
    threads = torch.get_num_threads()
    workers = min(count, threads)
    if workers == 1:
        yield map
    else:
        # torch passes the number on to a new thread with its own loops only, not with those of its BLAS
        each = threads // workers
        with (
            torch_threads(each),
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,)) as pool,
        ):
            yield pool.map
