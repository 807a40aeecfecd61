"""Checkpoints of experiments: only tensors, plain containers and S3PRL's own `argparse.Namespace`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from . import torch_files
from .unpickler import EXPERIMENT, Record

#: The only class that S3PRL's runner puts into a checkpoint: that of `Args`.
SAFE_GLOBALS: list[Any] = [argparse.Namespace]


@contextmanager
def namespaces_allowed() -> Iterator[None]:
    """Inside this context, `torch.load` with ``weights_only=True`` also accepts `SAFE_GLOBALS`. Other lists stay."""
    already = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([each for each in SAFE_GLOBALS if each not in already]):
        yield


def load(path: str | Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A checkpoint's dict; its tensors are copy-on-write views of the file.

    Args:
        path: a file that `torch.save` wrote.
        required: keys that the dict must hold; ``Args`` must then be a namespace.

    Raises:
        InputError: no such file, truncated, not a checkpoint, a key is missing, or the file asks to
            import something beyond `SAFE_GLOBALS` (the name is given; nothing of it is run).
    """
    state = torch_files.read(path, EXPERIMENT)
    missing = [key for key in required if not isinstance(state, dict) or key not in state]
    if missing:
        raise InputError(
            f"{path}: not the checkpoint expected here: it has no {', '.join(map(repr, missing))}."
        )
    if not isinstance(state, dict):
        return state
    whole = {key: _namespace(value) for key, value in state.items()}
    if "Args" in required and not isinstance(whole["Args"], argparse.Namespace):
        raise InputError(f"{path}: not a checkpoint of S3PRL's runner: its Args are not a namespace.")
    return whole


def _namespace(value: Any) -> Any:
    """``value``, or the `argparse.Namespace` that it stands for."""
    if not (isinstance(value, Record) and value.name.module == "argparse"):
        return value
    return argparse.Namespace(**(value.state if isinstance(value.state, dict) else {}))
