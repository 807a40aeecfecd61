"""The processes of one torchrun command that share work: the first one leads, the others help."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import InputError, shortened

if TYPE_CHECKING:
    from torch.distributed import Store

_POLL = 0.05
"""Seconds between two looks."""


class Group:
    """The processes of a command; by default this one alone.

    Only torchrun's own keys are used, no collective operation: a process that waits can be interrupted, and torchrun
    ends all processes where one of them fails.

    Args:
        rank: 0 for the process that leads.
        world: number of processes.
        keys: what the processes tell each other by; not needed where there is one.
    """

    def __init__(self, rank: int = 0, world: int = 1, keys: Store | None = None) -> None:
        self.rank, self.world, self._keys = rank, world, keys

    @classmethod
    def of_torchrun(cls) -> Group:
        """The processes that torchrun has started together with this one; this one alone without torchrun.

        Raises:
            InputError: several processes that torchrun did not start, or that do not find each other.
        """
        world = int(os.environ.get("WORLD_SIZE", 1))
        if world == 1:
            return cls()
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            raise InputError(f"WORLD_SIZE is {world}, but torchrun did not start this process: use torchrun.")
        from torch.distributed import PrefixStore, rendezvous

        with _connected():
            store, rank, world = next(iter(rendezvous("env://")))
            return cls(rank, world, PrefixStore("vqpool", store))

    def take(self, count: int) -> Iterator[int]:
        """Numbers from 0 below ``count``, upwards; each goes to one process of the group."""
        if self._keys is None:
            yield from range(count)
            return
        while True:
            with _connected():
                number = self._keys.add("taken", 1) - 1
            if number >= count:
                return
            yield number

    def begin(self) -> None:
        """Of the process that leads: let the others go on from `wait_for_begin`."""
        self._say("begun")

    def wait_for_begin(self) -> None:
        """Wait until the process that leads calls `begin`."""
        self._wait("begun")

    def leave(self) -> None:
        """Of a process that helps: say that nothing more comes from it."""
        self._say(f"left {self.rank}")

    def wait_for_others(self) -> None:
        """Of the process that leads: wait until all others have called `leave`."""
        for rank in range(1, self.world):
            self._wait(f"left {rank}")

    def _say(self, word: str) -> None:
        if self._keys is not None:
            with _connected():
                self._keys.set(word, "")

    def _wait(self, word: str) -> None:
        if self._keys is None:
            return
        with _connected():
            while not self._keys.check([word]):
                time.sleep(_POLL)


@contextmanager
def _connected() -> Iterator[None]:
    from torch.distributed import DistError

    try:
        yield
    except (DistError, ValueError) as error:
        problem = f"torchrun's processes cannot reach each other ({shortened(error)})"
        raise InputError(f"{problem}: the same command continues.") from error
