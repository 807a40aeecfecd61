"""Users' own upstreams and tasks, in folders that a command names. (Entry points of installed packages: `plugin`.)

Only what is named runs: the working directory is never looked at by itself.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from . import plugin


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


def use(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take the two options out of a command line, and make what they name known.

    Returns:
        The rest of the command line, and the words that were taken out, for commands that this one starts.

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
    taken = [
        word
        for kind in ("upstream", "downstream")
        for folder in getattr(given, f"{kind}_dir", ())
        for word in (f"--{kind}-dir", str(folder))
    ]
    return rest, taken


def upstreams(folder: Path) -> None:
    """Put the upstreams of a folder on `s3prl.hub`; those whose entry is a `hub_entry` have codes."""
    for hubconf in _added(folder, "upstream", "hubconf.py"):
        module = plugin.import_own(f"s3prl.upstream.{hubconf.parent.name}.hubconf", str(hubconf))
        plugin.add_entries(module, str(hubconf))


def downstreams(folder: Path) -> None:
    """Make the downstreams of a folder known; a ``task.py`` beside the expert is run, and registers its task."""
    for expert in _added(folder, "downstream", "expert.py"):
        plugin.add_downstream(expert.parent)
        if expert.with_name("task.py").is_file():
            plugin.import_own(f"s3prl.downstream.{expert.parent.name}.task", str(expert.with_name("task.py")))


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
