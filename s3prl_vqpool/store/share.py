"""Which shards a process takes, where several share the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..files import Busy, alone
from .files import shard_lock_name


def own(rank: int, world: int, count: int, take: Callable[[int], bool]) -> Iterator[int]:
    """The shards i of ``count`` with ``i % world == rank``, those that it can ``take``.

    Shards come longest utterances first and hold about as much speech each, so that each process gets as much.
    """
    return filter(take, range(rank, count, world))


def others(there: Sequence[bool], take: Callable[[int], bool]) -> Iterator[int]:
    """What is left of the others' shards, the last first: their own processes begin at the first.

    Args:
        there: for each shard whether it is finished.
    """
    return filter(take, (number for number in reversed(range(len(there))) if not there[number]))


class Taken:
    """The shards that a process has taken: each by a lock in the store, until it is written or the process ends.

    Args:
        folder: the store's.
        there: whether a shard is finished.
    """

    def __init__(self, folder: Path, there: Callable[[int], bool]) -> None:
        self.folder, self._there = folder, there
        self._locks: dict[int, ExitStack] = {}

    def __enter__(self) -> Taken:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in list(self._locks):
            self.leave(number)

    def take(self, number: int) -> bool:
        """Take a shard; False where it is finished, or another process has it."""
        if self._there(number):
            return False
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(self.folder, shard_lock_name(number)))
            except Busy:
                return False
            if self._there(number):  # since a moment ago
                return False
            self._locks[number] = stack.pop_all()
        return True

    def leave(self, number: int) -> None:
        """Let a shard go."""
        self._locks.pop(number).close()
