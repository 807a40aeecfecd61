"""Entries of a hubconf.py: what is given to an upstream is used, or refused."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import InputError, unknown_name

Made = TypeVar("Made")

#: What S3PRL's runner gives to every entry, and its option.
_FROM_RUNNER = {"ckpt": "-k", "model_config": "-g", "refresh": "-r"}


def hub_entry(make: Callable[..., Made] | None = None, *, options: Sequence[str] = ()) -> Callable[..., Any]:
    """Decorate a function of a hubconf.py: keyword arguments that it does not name are refused.

    S3PRL's runner gives ``ckpt``, ``model_config`` and ``refresh`` to every entry; those that ``make`` does not name
    must be None or False. ``check`` of the result takes the same keyword arguments and only refuses; ``named`` of the
    result are the names.

    Args:
        options: names that the function takes by its ``**`` parameter.

    Raises:
        InputError: from the entry: an unknown argument, with close matches, or one that would not be used.
    """
    if make is None:
        return functools.partial(hub_entry, options=options)
    parameters = inspect.signature(make).parameters.values()
    named = [*(each.name for each in parameters if each.kind is not each.VAR_KEYWORD), *options]

    def check(**given: Any) -> None:
        for key, value in given.items():
            if key in named or (key in _FROM_RUNNER and not value):
                continue
            if key in _FROM_RUNNER:
                raise _unused(make, key, value)
            raise unknown_name(f"argument of {make.__name__}:", key, named)

    @functools.wraps(make)
    def entry(*args: Any, **given: Any) -> Made:
        check(**given)
        return make(*args, **{key: value for key, value in given.items() if key in named})

    vars(entry).update(check=check, named=tuple(named))
    return entry


def check_given(entry: Callable[..., Any], **given: Any) -> None:
    """Raise InputError where an entry of `s3prl.hub` would not use what is ``given``: ckpt, model_config, refresh.

    S3PRL's own entries take any argument. Those whose name fixes their weights (`hubert`, `mfcc`) replace ``ckpt``
    and ``model_config`` with their own.
    """
    check = getattr(entry, "check", None)
    if check is not None:
        check(**given)
    elif _fixed(entry):
        for key in ("ckpt", "model_config"):
            if given.get(key) and key not in inspect.signature(entry).parameters:
                raise _unused(entry, key, given[key])


def _fixed(entry: Callable[..., Any]) -> bool:
    """Whether the name of one of S3PRL's entries fixes its weights, by S3PRL's own rule (`hub.options`)."""
    free = entry.__name__.endswith(("_local", "_url", "_gdriveid", "_custom"))
    return not free and (_family(entry) == "baseline" or _takes_checkpoint(entry) is not None)


def _unused(entry: Callable[..., Any], key: str, value: Any) -> InputError:
    name, option = entry.__name__, _FROM_RUNNER[key]
    if key == "refresh":
        return InputError(f"{option} (refresh): {name} does not use it: leave it out.")
    other = _takes_checkpoint(entry) if key == "ckpt" else None
    way_out = f"use -u {other}" if other else f"leave {option} out"
    what = "has weights of its own" if key == "ckpt" else "takes no such file"
    return InputError(f"{option} {value}: {name} {what}, and would not use it: {way_out}.")


def _takes_checkpoint(entry: Callable[..., Any]) -> str | None:
    """The entry beside this one that takes a checkpoint file."""
    family, names = _family(entry), vars(sys.modules[entry.__module__])
    found = [f"{family}{suffix}" for suffix in ("_local", "_custom") if f"{family}{suffix}" in names]
    found += [name for name in names if name.endswith("_custom") and not name.startswith("_")]
    return None if family == "baseline" else next(iter(found), None)


def _family(entry: Callable[..., Any]) -> str:
    """Name of the folder of an entry's hubconf.py."""
    return entry.__module__.split(".")[-2]
