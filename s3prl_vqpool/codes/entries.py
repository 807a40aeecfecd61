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
#: S3PRL's function that downloads the weights of an entry.
_DOWNLOADS = "_urls_to_filepaths"


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

    S3PRL's own entries take any argument, and most drop what they have no use for.
    """
    check = getattr(entry, "check", None)
    if check is not None:
        check(**given)
        return
    for key, value in given.items():
        if value and key in _FROM_RUNNER and not _uses(entry, key):
            raise _unused(entry, key, value)


def _uses(function: Callable[..., Any], key: str, seen: tuple[Callable[..., Any], ...] = ()) -> bool:
    """Whether one of S3PRL's entries, or what it hands its arguments on to in its hubconf.py, names ``key``.

    It is read off the function's code, without a call. An entry that fixes its weights sets ``ckpt`` by itself
    (`hubert`), or downloads what it does not name (`byol_a_2048`).
    """
    made = inspect.isclass(function)
    run = function.__init__ if made else function
    parameters = inspect.signature(run).parameters
    if key in parameters:
        return True
    code, names = run.__code__, run.__globals__
    fixed = key in code.co_consts or (key == "ckpt" and _DOWNLOADS in code.co_names)
    if made or fixed or not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return False
    folder = function.__module__.rpartition(".")[0]
    handed_to = [
        names[name] for name in code.co_names if callable(names.get(name)) and names[name] not in seen
    ]
    return any(
        _uses(each, key, (*seen, function)) for each in handed_to if each.__module__.startswith(f"{folder}.")
    )


def _unused(entry: Callable[..., Any], key: str, value: Any) -> InputError:
    name, option = entry.__name__, _FROM_RUNNER[key]
    if key == "refresh":
        return InputError(f"{option} (refresh): {name} does not use it: leave it out.")
    other = _takes_checkpoint(entry) if key == "ckpt" else None
    way_out = f"use -u {other}" if other else f"leave {option} out"
    own = key == "ckpt" and not name.endswith("_local")  # `baseline_local` takes a config alone
    what = "has weights of its own" if own else "takes no such file"
    return InputError(f"{option} {value}: {name} {what}, and would not use it: {way_out}.")


def _takes_checkpoint(entry: Callable[..., Any]) -> str | None:
    """The entry beside this one that takes a checkpoint file."""
    family, names = entry.__module__.split(".")[-2], vars(sys.modules[entry.__module__])
    wanted = [f"{stem}{suffix}" for stem in (entry.__name__, family) for suffix in ("_local", "_custom")]
    wanted += [name for name in names if name.endswith("_custom") and not name.startswith("_")]
    return next((name for name in wanted if name in names and _uses(names[name], "ckpt")), None)
