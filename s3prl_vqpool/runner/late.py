"""S3PRL's hub without transformers' models: these are imported when an upstream is built that has one.

Two modules of the hub name such models on import, and that took more than half of the hub's import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

#: Modules of S3PRL that take only classes from transformers, and call only their class methods.
MODULES = ("s3prl.upstream.hf_hubert.expert", "s3prl.upstream.hf_wav2vec2.expert")


class Late:
    """A class of transformers, which is imported when one of its attributes is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(importlib.import_module("transformers"), self._name), attribute)


def importer(others: Callable[..., Any]) -> Callable[..., Any]:
    """The ``__import__`` of `MODULES`: `Late` classes of transformers; everything else by ``others``."""

    def imported(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if name == "transformers" and level == 0 and fromlist:
            return SimpleNamespace(**{each: Late(each) for each in fromlist})
        return others(name, globals, locals, fromlist, level)

    return imported
