"""Whether the audio is still the audio that a store was extracted from."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..corpora import audio
from ..errors import InputError
from .rows import Row


def digest(samples: np.ndarray) -> str:
    """SHA-256 of samples, as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(samples.astype("<f4", copy=False)).data).hexdigest()


def stamp(path: Path) -> tuple[int, int] | None:
    """Bytes of a file, and when it was modified, in ns; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def require(folder: Path, rows: Iterable[Row], gain_db: float) -> None:
    """Raises InputError for audio that was deleted or is another than when the store ``folder`` was extracted.

    A file of the same size and time of modification is not read. If they differ, the samples are compared.
    """
    stamps: dict[str, tuple[int, int] | None] = {}
    doubtful = []
    for row in rows:
        path = str(row.path)
        if path not in stamps:
            stamps[path] = stamp(row.path)
        if row.bytes is not None and stamps[path] != (row.bytes, row.modified):
            doubtful.append(row)
    gone = [path for path, found in stamps.items() if found is None]
    if gone:
        raise InputError(
            f"{gone[0]}: is gone since {folder} was extracted ({len(gone)} of {len(stamps)} files are): put it back, "
            "or extract to another --store."
        )
    for row in tqdm(doubtful, "reading audio that was touched", leave=False, disable=None, file=sys.stderr):
        if digest(audio.read(row.path, gain_db, row.start or 0, row.frames)) != row.sha256:
            raise InputError(
                f"{row.path}: is not the audio that {folder} was extracted from: put that back, or extract to another "
                "--store."
            )
