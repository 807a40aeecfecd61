"""Long lists in little memory."""

from __future__ import annotations

import json
from abc import abstractmethod
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

T = TypeVar("T")

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class Made(Sequence[T]):
    """A sequence that makes an item when it is asked for."""

    @abstractmethod
    def _made(self, place: int) -> T:
        """The item of a place from 0 on."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        places = range(len(self))[place]
        return self._made(places) if isinstance(places, int) else [self._made(each) for each in places]


class Packed(Made[T]):
    """A list that keeps the values of each item as JSON, and makes the item when it is asked for.

    A path, a name and some numbers take about 130 bytes so, and as objects ten times as much.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._text, self._ends = bytearray(), array("Q", [0])
        for item in items:
            self.append(item)

    @abstractmethod
    def _values(self, item: T) -> list[Any]:
        """What is kept of an item: texts, numbers, None, and lists of these."""

    @abstractmethod
    def _item(self, place: int, values: list[Any]) -> T:
        """The item of a place, made of its values."""

    def append(self, item: T) -> None:
        """Add an item at the end."""
        self._text += _encode(self._values(item)).encode()
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _made(self, place: int) -> T:
        first, last = self._ends[place], self._ends[place + 1]
        return self._item(place, _decode(self._text[first:last].decode()))

    def __iter__(self) -> Iterator[T]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def repeated(keys: Iterable[Hashable]) -> np.ndarray:
    """For each key whether it comes more than once, bool [N].

    Only hashes are kept and compared. So it may be True, once in a very long while, for a key that comes once.
    """
    hashes = np.fromiter(map(hash, keys), np.int64)
    order = np.argsort(hashes)
    same = hashes[order[1:]] == hashes[order[:-1]]
    several = np.zeros(len(hashes), bool)
    several[order[1:][same]] = several[order[:-1][same]] = True
    return several
