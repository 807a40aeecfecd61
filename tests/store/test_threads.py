"""Work side by side: all of it done, in order, with torch's threads shared out and given back."""

from __future__ import annotations

import threading

import pytest
import torch

from s3prl_vqpool.store.threads import side_by_side, torch_threads


@pytest.mark.parametrize(("threads", "items", "workers", "each"), [(4, 3, 3, 1), (5, 2, 2, 2), (2, 9, 2, 1)])
def test_side_by_side_shares_out_torchs_threads(threads: int, items: int, workers: int, each: int) -> None:
    """As many at a time as said (a barrier of that many opens), each with its part of the threads."""
    together = threading.Barrier(workers)

    def work(item: int) -> tuple[int, int]:
        if item < workers:
            together.wait(timeout=60)
        return item, torch.get_num_threads()

    with torch_threads(threads):
        with side_by_side(items) as each_of:
            assert list(each_of(work, range(items))) == [(item, each) for item in range(items)]
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("threads", "items"), [(1, 5), (4, 1)])
def test_side_by_side_alone_is_this_thread_with_all_of_torchs(threads: int, items: int) -> None:
    def work(item: int) -> tuple[threading.Thread, int]:
        return threading.current_thread(), torch.get_num_threads()

    with torch_threads(threads), side_by_side(items) as each_of:
        assert list(each_of(work, range(items))) == [(threading.current_thread(), threads)] * items


def test_side_by_side_raises_what_the_work_raised() -> None:
    def work(item: int) -> None:
        raise ValueError(item)

    with torch_threads(2):
        with pytest.raises(ValueError, match="0"), side_by_side(2) as each_of:
            list(each_of(work, range(2)))
        assert torch.get_num_threads() == 2
