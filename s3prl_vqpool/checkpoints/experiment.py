"""Checkpoints are data: tensors, plain containers and S3PRL's own `argparse.Namespace`, nothing else."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import DamagedCheckpoint, InputError
from . import torch_files

#: What S3PRL's runner puts into a checkpoint beside tensors and plain containers: `Args`.
SAFE_GLOBALS: list[Any] = [argparse.Namespace]


@contextmanager
def namespaces_allowed() -> Iterator[None]:
    """While entered, `torch.load` with ``weights_only=True`` takes `SAFE_GLOBALS`; what others listed stays listed."""
    already = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([each for each in SAFE_GLOBALS if each not in already]):
        yield


_WANTED = re.compile(r"GLOBAL ([\w.]+)")


def load(path: str | Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A checkpoint's dict, tensors memory-mapped, read with ``weights_only=True``.

    Args:
        path: a file that `torch.save` wrote.
        required: keys that the dict must hold.

    Raises:
        InputError: no such file, truncated, not a checkpoint, a key is missing, or the file wants to
            import something beyond `SAFE_GLOBALS` (the name is given; nothing of it is run).
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder, name the checkpoint in it" if path.is_dir() else "no such checkpoint"
        raise InputError(f"{path}: {problem}.")

    try:
        with open(path, "rb") as file:
            zipped = torch_files.is_zip(file)
    except OSError as error:
        raise torch_files.unread(path, error) from error
    if zipped:
        torch_files.check_zip(path)
    try:
        with namespaces_allowed():
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        wanted = _WANTED.search(str(error))
        if wanted and not _ends_with(path, wanted[1]):
            raise InputError(
                f"{path}: refused, it asks to import {wanted[1]}; checkpoints may hold tensors and plain data only."
            ) from error
        raise DamagedCheckpoint(f"{path}: not a checkpoint that torch.save wrote, or damaged.") from error
    except OSError as error:
        raise torch_files.unread(path, error) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        AssertionError,
        struct.error,
    ) as error:
        raise DamagedCheckpoint(f"{path}: damaged or truncated, torch cannot read it.") from error
    missing = [key for key in required if not isinstance(state, dict) or key not in state]
    if missing:
        raise InputError(
            f"{path}: not the checkpoint expected here, it has no {', '.join(map(repr, missing))}."
        )
    return state


def _ends_with(path: Path, name: str) -> bool:
    """Whether a file in torch's old format was cut inside this ``module\\nname``: that is no wish to import it."""
    with open(path, "rb") as file:
        file.seek(-min(path.stat().st_size, len(name) + 2), os.SEEK_END)
        return name.rstrip(".").encode() in file.read().replace(b"\n", b".")
