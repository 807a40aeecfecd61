"""Puts this project's upstreams on `s3prl.hub` and its downstreams below `s3prl.downstream`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, one_line, unknown_name

#: Entry points of other installed packages. The value of one is a module whose name ends in ``hubconf``.
GROUP = "s3prl_vqpool.upstreams"
#: S3PRL's modules that this project adds to, in the order in which S3PRL imports them.
PLACES = ("s3prl.upstream", "s3prl.downstream", "s3prl.hub")
_PACKAGE = Path(__file__).resolve().parents[1]
#: S3PRL's packages that get one of our folders, and which folder.
_FOLDERS = {"s3prl.upstream": "upstream_expert", "s3prl.downstream": "downstream"}
_upstreams: dict[str, Callable] = {}
#: Folders of downstreams of users' own, by name.
_own: dict[str, Path] = {}


def folder(name: str) -> Path:
    """`downstream`, `upstream_expert` or `configs`: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def register() -> None:
    """Make S3PRL find the upstreams and downstreams of this project; further calls change nothing.

    Raises:
        ImportError: S3PRL, or something that it or an upstream needs, cannot be imported.
    """
    for name in PLACES:
        add_to(importlib.import_module(name))


def add_to(module: ModuleType) -> None:
    """Add this project's names to one of S3PRL's modules (`PLACES`). A second call changes nothing.

    `s3prl.upstream` and `s3prl.downstream` get our folders on their ``__path__``, so the experts there are
    ordinary modules of S3PRL's tree; every public function of a ``hubconf.py`` becomes a name of `s3prl.hub`.
    """
    if module.__name__ in _FOLDERS:
        path = str(folder(_FOLDERS[module.__name__]))
        if path not in module.__path__:
            module.__path__.append(path)
        return
    new = not _upstreams
    if new:
        _upstreams.update(entries_below(folder("upstream_expert")))
    vars(module).update(_upstreams)
    if new:
        _add_installed()


def _add_installed() -> None:
    """Put the upstreams of other installed packages on `s3prl.hub`; one that fails is left out with a warning."""
    for point in entry_points(group=GROUP):
        origin = f"entry point {point.name} of {GROUP}"
        try:
            add_entries(import_own(point.value, origin), origin)
        except InputError as error:
            warnings.warn(one_line(error), stacklevel=2)


def import_own(module: str, origin: str) -> ModuleType:
    """Import a user's ``module``; whatever its code raises is an InputError that names ``origin``."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{origin}: fails when it is imported ({reason}).") from error


def entries_below(path: Path) -> dict[str, Callable]:
    """The upstream entries of every hubconf.py in the folders of ``path``, which is on ``s3prl.upstream.__path__``."""
    found: dict[str, Callable] = {}
    for hubconf in sorted(path.glob("*/hubconf.py")):
        found.update(entries(importlib.import_module(f"s3prl.upstream.{hubconf.parent.name}.hubconf")))
    return found


def entries(hubconf: ModuleType) -> dict[str, Callable]:
    """The upstream entries of a hubconf module: its own public functions."""
    return {
        name: value
        for name, value in vars(hubconf).items()
        if not name.startswith("_") and callable(value) and value.__module__ == hubconf.__name__
    }


def add_entries(hubconf: ModuleType, origin: str) -> None:
    """Put the entries of a user's hubconf on `s3prl.hub`, also among `upstreams` where they are `hub_entry`s.

    Raises:
        InputError: one has the name of another upstream; names ``origin``.
    """
    hub, found = importlib.import_module("s3prl.hub"), entries(hubconf)
    for name in found:
        if hasattr(hub, name):
            raise InputError(f"{origin}: there is an upstream {name} already: rename the function.")
    vars(hub).update(found)
    _upstreams.update({name: entry for name, entry in found.items() if hasattr(entry, "check")})


def add_downstream(path: Path) -> None:
    """Make the downstream in a user's folder known by the folder's name."""
    _own[path.name] = path


def upstreams() -> dict[str, Callable]:
    """The upstreams that publish codes: names as for `-u`, and the functions that make them."""
    register()
    return dict(_upstreams)


def downstreams() -> list[str]:
    """Names of this project's downstreams, and of users' own that have a task, as for `-d`."""
    ours = sorted(path.parent.name for path in folder("downstream").glob("*/expert.py"))
    return [*ours, *sorted(name for name, path in _own.items() if (path / "task.py").is_file())]


def default_config(downstream: str) -> Path:
    """The default `-c` of a downstream of this project or of a user; of others where S3PRL looks for it."""
    if downstream in _own:
        return _own[downstream] / "config.yaml"
    ours = folder("downstream") / downstream
    return (ours if ours.is_dir() else Path("downstream") / downstream) / "config.yaml"


def expert_of(downstream: str) -> Callable[..., Any]:
    """The expert class of one of this project's downstreams."""
    register()
    return importlib.import_module(f"s3prl.downstream.{downstream}.expert").DownstreamExpert


def entry_of(name: str) -> Callable[..., Any]:
    """The function that makes an upstream with codes; InputError with close matches for an unknown name."""
    known = upstreams()
    if name not in known:
        raise unknown_name("upstream with codes", name, known)
    return known[name]
