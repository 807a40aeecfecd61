"""Which utterances share a shard and a batch, and how much disk they need, computed from their lengths alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpora import audio
from ..errors import InputError
from ..pooling import method

SHARD_SECONDS = 600
"""Most speech in a shard: what a kill can cost."""
BATCH_SECONDS = {"cpu": 40, "cuda": 400}
"""Most speech in a batch, padding included."""
ROW_BYTES = 650
"""A line of a shard's index, and an entry of `index.ROWS`, generously."""
NUMBER_BYTES = {"float16": 2, "float32": 4}
"""Dtypes of stored vectors and frames, by their names in torch: bytes of a number."""


def shards(samples: Sequence[int]) -> list[list[int]]:
    """A partition of the rows 0 .. N-1 with ``samples`` each: longest first, `SHARD_SECONDS` a shard.

    It depends on nothing else, so every process finds the same one.
    """
    order = sorted(range(len(samples)), key=lambda row: (-samples[row], row))
    return list(_cut(order, samples, SHARD_SECONDS, padded=False))


def batches(rows: Sequence[int], samples: Sequence[int], seconds: float) -> list[list[int]]:
    """The rows of a shard, in its order, as batches of up to ``seconds``, padding included."""
    return list(_cut(rows, samples, seconds, padded=True))


def _cut(rows: Sequence[int], samples: Sequence[int], seconds: float, padded: bool) -> Iterator[list[int]]:
    part: list[int] = []
    total = 0
    for row in rows:
        size = samples[part[0]] if padded and part else samples[row]
        if part and total + size > seconds * audio.SAMPLE_RATE:
            yield part
            part, total, size = [], 0, samples[row]
        part.append(row)
        total += size
    if part:
        yield part


def disk_bytes(manifest: Mapping[str, Any], lengths: Sequence[int]) -> int:
    """Bytes on disk of utterances with so many frames, by what the manifest says is stored of each."""
    number = NUMBER_BYTES[manifest["dtype"]]
    utterance = vector_bytes(manifest, manifest["poolings"]) + ROW_BYTES
    frame = len(manifest["codebook_sizes"]) * 4 + (manifest["dim"] * number if manifest["frames"] else 0)
    return utterance * len(lengths) + frame * sum(lengths)


def vector_bytes(manifest: Mapping[str, Any], poolings: Sequence[str]) -> int:
    """Bytes of an utterance's vectors under some poolings."""
    numbers = sum(method(name).output_dim(manifest["dim"]) for name in poolings)
    return manifest["layers"] * numbers * NUMBER_BYTES[manifest["dtype"]]


def check_disk(folder: Path, needed: int, way_out: str) -> None:
    """Raise InputError if the disk of ``folder`` lacks ``needed`` free bytes. The folder need not exist."""
    room = free(folder)
    if needed > room:
        raise InputError(
            f"{folder}: needs {in_words(needed)}, but the disk has {in_words(room)} free: make room, or {way_out}."
        )


def free(folder: Path) -> int:
    """Bytes that are free on the disk of ``folder``, which need not exist."""
    absolute = folder.resolve()
    return shutil.disk_usage(next(path for path in (absolute, *absolute.parents) if path.exists())).free


def in_words(size: float) -> str:
    """``1.2 GB`` for 1234567890.

    Examples:
        >>> in_words(1234567890)
        '1.2 GB'
    """
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
