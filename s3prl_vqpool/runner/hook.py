"""Takes part in the import of S3PRL: repairs what its modules see, and registers this package with it.

`install` sets our own finders for S3PRL's folders only (`sys.path_importer_cache` has one finder for each folder), so
Python asks them for the modules of S3PRL only. Importing this package costs almost nothing, `sys.meta_path` does not
change, and code that does not import S3PRL is not affected.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

from ..errors import InputError, one_line

PACKAGE = "s3prl"


class Finder(FileFinder):
    """Finds the modules in one of S3PRL's folders, and sets a finder for each folder below."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, (Loader, SOURCE_SUFFIXES))

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = super().find_spec(fullname, target)
        for folder in (spec and spec.submodule_search_locations) or ():
            sys.path_importer_cache[folder] = Finder(folder)
        return spec


class Loader(SourceFileLoader):
    """Runs a module of S3PRL with the repairs in place, and registers the plugin after it."""

    def exec_module(self, module: ModuleType) -> None:
        if not module.__name__.startswith(f"{PACKAGE}."):
            super().exec_module(module)
            return
        from . import compat

        with _in_one_line(f"{module.__name__} cannot be imported"):
            compat.prepare(module)
        super().exec_module(module)
        finish(module)


def install() -> None:
    """Prepare the import of S3PRL. If it has been imported before, register at once.

    If that fails, a warning of one line says so. Code that needs no S3PRL works anyway.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = [folder for folder in (spec and spec.submodule_search_locations) or () if os.path.isdir(folder)]
    for folder in folders:
        if not isinstance(sys.path_importer_cache.get(folder), Finder):
            sys.path_importer_cache[folder] = Finder(folder)
    present = [module for name, module in list(sys.modules.items()) if name.startswith(f"{PACKAGE}.")]
    if not present:
        return
    try:
        _catch_up(present)
    except ImportError as error:
        warnings.warn(f"{error}. S3PRL was imported before s3prl_vqpool: import it after.", stacklevel=3)


def _catch_up(present: list[ModuleType]) -> None:
    """Do what the loader does for modules that were imported without it, and prepare the folders below theirs."""
    from . import compat, plugin

    for module in present:
        for folder in getattr(module, "__path__", ()):
            sys.path_importer_cache[folder] = Finder(folder)
    with _in_one_line("S3PRL cannot be repaired"):
        compat.apply()
    for module in present:
        compat.mend(module)
    for name in (compat.RUNNER, compat.LIBRARY, compat.CORPUS, *plugin.PLACES):
        if name in sys.modules:
            finish(sys.modules[name])


def finish(module: ModuleType) -> None:
    """Do what is needed after ``module`` of S3PRL has run: repairs, or registration."""
    from . import compat, plugin

    if module.__name__ == compat.RUNNER:
        compat.mend_runner(module)
    if module.__name__ == compat.CORPUS:
        compat.mend_corpus(module)
    if module.__name__ == compat.LIBRARY:
        compat.mend_library(module)
    if module.__name__ in plugin.PLACES:
        with _in_one_line("s3prl_vqpool cannot be registered with S3PRL"):
            plugin.add_to(module)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Turn a failure inside into an ImportError of one line that says ``what`` failed, and why."""
    try:
        yield
    except (ImportError, OSError, InputError) as error:
        raise ImportError(f"{what} ({one_line(error)}); vqpool doctor says more") from error
