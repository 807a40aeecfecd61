"""Users' own upstreams and tasks: folders that a command names, and entry points of installed packages.

Only what is named runs: the working directory is never looked at by itself.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from ..errors import InputError, one_line
from . import plugin

#: Of installed packages. The value of an entry point is a module whose name ends in ``hubconf``.
GROUP = "s3prl_vqpool.upstreams"


def options() -> argparse.ArgumentParser:
    """A parser with ``--upstream-dir`` and ``--downstream-dir`` alone; either may be given several times."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two options, which leave nothing in the namespace if they are not given."""
    for kind, file in (("upstream", "hubconf.py"), ("downstream", "expert.py")):
        parser.add_argument(
            f"--{kind}-dir",
            type=Path,
            action="append",
            metavar="FOLDER",
            default=argparse.SUPPRESS,
            help=f"folder with {kind}s of your own, each a folder NAME with {file}; its code is run",
        )


def use(argv: Sequence[str]) -> list[str]:
    """Take the two options out of a command line, and make what they name known; the rest of the command line.

    Raises:
        InputError: no such folder, nothing in it, a name that is taken, or code that fails.
    """
    given, rest = options().parse_known_args(list(argv))
    for folder in getattr(given, "upstream_dir", ()):
        _check(folder, "upstream", "hubconf.py")
        plugin.register()
        upstreams(folder)
    for folder in getattr(given, "downstream_dir", ()):
        _check(folder, "downstream", "expert.py")
        plugin.register()
        downstreams(folder)
    return rest


def upstreams(folder: Path) -> None:
    """Put the upstreams of a folder on `s3prl.hub`; those whose entry is a `hub_entry` have codes."""
    for hubconf in _added(folder, "upstream", "hubconf.py"):
        module = _run(f"s3prl.upstream.{hubconf.parent.name}.hubconf", str(hubconf))
        plugin.add_entries(module, str(hubconf))


def downstreams(folder: Path) -> None:
    """Make the downstreams of a folder known; a ``task.py`` beside the expert is run, and registers its task."""
    for expert in _added(folder, "downstream", "expert.py"):
        plugin.add_downstream(expert.parent)
        if expert.with_name("task.py").is_file():
            _run(f"s3prl.downstream.{expert.parent.name}.task", str(expert.with_name("task.py")))


def installed() -> None:
    """Put the upstreams of other installed packages on `s3prl.hub`; one that fails is left out with a warning."""
    for point in entry_points(group=GROUP):
        origin = f"entry point {point.name} of {GROUP}"
        try:
            plugin.add_entries(_run(point.value, origin), origin)
        except InputError as error:
            warnings.warn(one_line(error), stacklevel=2)


def _check(folder: Path, kind: str, file: str) -> None:
    if not folder.is_dir():
        raise InputError(f"--{kind}-dir {folder}: no such folder.")
    if not list(folder.glob(f"*/{file}")):
        raise InputError(f"--{kind}-dir {folder}: no {kind} in it: expected folders NAME with {file}.")


def _added(folder: Path, kind: str, file: str) -> list[Path]:
    """The files of ``folder``, which is now on the path of S3PRL's package; nothing where it was there already."""
    package = importlib.import_module(f"s3prl.{kind}")
    path, found = str(folder.resolve()), sorted(folder.resolve().glob(f"*/{file}"))
    if path in package.__path__:
        return []
    for each in found:
        if any(Path(other, each.parent.name).exists() for other in package.__path__):
            raise InputError(
                f"{each.parent}: {each.parent.name} is the name of another {kind}: rename the folder."
            )
    package.__path__.append(path)
    importlib.invalidate_caches()
    return found


def _run(module: str, origin: str) -> ModuleType:
    """Import ``module``; whatever its code raises is an InputError that names ``origin``."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{origin}: fails when it is imported ({reason}).") from error
