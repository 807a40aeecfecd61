"""Checkpoints are data: tensors, plain containers and S3PRL's own `argparse.Namespace`, nothing else."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from . import fairseq_files, tensor_files
from .errors import DamagedCheckpoint, InputError, UnreadableFile

#: What S3PRL's runner puts into a checkpoint beside tensors and plain containers: `Args`.
SAFE_GLOBALS: list[Any] = [argparse.Namespace]


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

    torch.serialization.add_safe_globals(SAFE_GLOBALS)
    try:
        with open(path, "rb") as file:
            zipped = tensor_files.is_zip(file)
    except OSError as error:
        raise tensor_files.unread(path, error) from error
    if zipped:
        tensor_files.check_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        wanted = _WANTED.search(str(error))
        if wanted and not _ends_with(path, wanted[1]):
            raise InputError(
                f"{path}: refused, it asks to import {wanted[1]}; checkpoints may hold tensors and plain data only."
            ) from error
        raise DamagedCheckpoint(f"{path}: not a checkpoint that torch.save wrote, or damaged.") from error
    except OSError as error:
        raise tensor_files.unread(path, error) from error
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


def fetch(
    url: str,
    refresh: bool = False,
    instead: str = "wav2vec2_vq_local",
    read: Callable[[Path], object] = fairseq_files.load,
) -> Path:
    """The local copy of an upstream's checkpoint, downloaded into S3PRL's cache on first use.

    S3PRL keeps a download that ended early as if it were whole (s3prl/util/download.py); here the copy is
    read once before it is used, and one that ``read`` refuses is removed.

    Args:
        url: http or https address.
        refresh: download again even if there is a copy.
        instead: upstream that takes the file by its path, for the hint in errors.
        read: what the copy must stand.

    Raises:
        InputError: no network, no such file, the download was cut short, or ``read`` refuses the file.
    """
    from s3prl.util.download import urls_to_filepaths

    way_out = f"Copy the file here by other means and use: -u {instead} -k PATH/{Path(url).name}"
    try:
        path = Path(urls_to_filepaths(url, refresh=refresh))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{url}: cannot be downloaded ({_reason(error)}). {way_out}") from error
    try:
        read(path)
    except DamagedCheckpoint as error:
        size = path.stat().st_size
        path.unlink()
        problem = (
            f"the download ended early or is no checkpoint ({size} bytes); the copy was removed, run again"
        )
        refusal = _http_error(url)
        if refusal:
            problem = f"cannot be downloaded ({refusal})"
        raise InputError(f"{url}: {problem}. {way_out}") from error
    except UnreadableFile:
        raise
    except InputError as error:
        path.unlink()
        raise InputError(f"{url}: {str(error).removeprefix(f'{path}: ')}") from error
    return path


def _http_error(url: str) -> str:
    """The server's refusal, "" if it has none: S3PRL saves the page of a refusal as if it were the file."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=10).close()
    except HTTPError as error:
        return f"{error.code} {error.reason}"
    except OSError:
        pass
    return ""


def _reason(error: Exception) -> str:
    """The innermost cause in one line: `requests` wraps it several times."""
    cause: BaseException = error.__context__ or error
    if isinstance(cause, HTTPError):
        return f"{cause.code} {cause.reason}"
    return " ".join(str(getattr(cause, "reason", None) or cause).split()) or type(cause).__name__
