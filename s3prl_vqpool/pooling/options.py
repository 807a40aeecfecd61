"""Options of poolings, as records: name, default, how a value is read, what it may be tuned over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..errors import InputError, unknown_name


@dataclass(frozen=True)
class Reader:
    """How a value is read from a keyword, a config (YAML) or the text of a command line.

    ``expected``: what is read, in words. ``convert`` returns the value, or raises TypeError or ValueError.
    """

    expected: str
    convert: Callable[[Any], Any]


def _positive(value: Any) -> float:
    number = float("nan" if isinstance(value, bool) else value)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def _whole(value: Any) -> int:
    number = float("nan" if isinstance(value, bool) else value)
    if not 1 <= number < math.inf or number % 1:
        raise ValueError
    return int(number)


positive = Reader("a number above 0", _positive)
whole = Reader("a whole number from 1 up", _whole)


def one_of(*names: str) -> Reader:
    """Reads one of ``names``."""

    def convert(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Reader(" or ".join(names), convert)


@dataclass(frozen=True)
class Option:
    """An option of a pooling.

    ``grid``: the values that a table tries; the dev split chooses among them. Empty: the default is used.
    """

    name: str
    default: Any
    read: Reader
    grid: tuple[Any, ...] = ()


def read(options: Sequence[Option], given: Mapping[str, Any], owner: str, place: str = "") -> dict[str, Any]:
    """The values of ``given``, each read by its option.

    Args:
        owner: name of the pooling that has the ``options``.
        place: what comes before an option's name in a message; by default the owner.

    Raises:
        InputError: an option that is not among ``options``, or a value that it does not take.
    """
    known = {option.name: option for option in options}
    values = {}
    for name, value in given.items():
        if name not in known:
            raise unknown_name(f"option of pooling {owner}:", name, list(known) or ["none"])
        reader = known[name].read
        try:
            values[name] = reader.convert(value)
        except (TypeError, ValueError):
            where = f"{place or f'{owner}: '}{name}"
            raise InputError(f"{where}: expected {reader.expected}, but got {value!r}.") from None
    return values


def defaults(options: Iterable[Option]) -> dict[str, Any]:
    """The default of each option."""
    return {option.name: option.default for option in options}


def grid(options: Sequence[Option], given: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The values that dev chooses among: ``given`` ones with all combinations of the grids of the other options."""
    fixed = given or {}
    tuned = [option for option in options if option.grid and option.name not in fixed]
    return [
        {**fixed, **dict(zip((option.name for option in tuned), values))}
        for values in product(*(option.grid for option in tuned))
    ]


def in_short(value: Any) -> str:
    """An option's value for people: ``0.001`` for 1e-3."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def from_words(words: Sequence[str]) -> dict[str, str]:
    """What ``NAME=VALUE ...`` on a command line (`--option`) says; InputError for a word of another form."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise InputError(f"--option {word}: expected NAME=VALUE, such as a=1e-3.")
        values[name] = value
    return values
