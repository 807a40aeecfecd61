"""Which utterances share a shard and a batch, and how much disk they need, computed from their lengths alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..corpora import audio
from ..corpora.packed import Made
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


class Shards(Made[list[int]]):
    """The rows of each shard, in its order.

    Args:
        order: the rows int64 [N], shard after shard.
        bounds: where in ``order`` each shard begins, and the end of the last, int64 [shards + 1].
    """

    def __init__(self, order: np.ndarray, bounds: np.ndarray) -> None:
        self._order, self._bounds = order, bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def _made(self, place: int) -> list[int]:
        return self._order[self._bounds[place] : self._bounds[place + 1]].tolist()


def shards(samples: Sequence[int]) -> Shards:
    """A partition of the rows 0 .. N-1 with ``samples`` each: longest first, `SHARD_SECONDS` a shard.

    It depends on nothing else, so every process finds the same one.
    """
    sizes = np.asarray(samples, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    return Shards(order, np.fromiter(_bounds(map(int, sizes[order]), SHARD_SECONDS, padded=False), np.int64))


def batches(rows: Sequence[int], samples: Sequence[int], seconds: float) -> list[list[int]]:
    """The rows of a shard, in its order, as batches of up to ``seconds``, padding included."""
    bounds = _bounds((samples[row] for row in rows), seconds, padded=True)
    return [list(rows[first:last]) for first, last in pairwise(bounds)]


def _bounds(samples: Iterable[int], seconds: float, padded: bool) -> Iterator[int]:
    """Where each part of up to ``seconds`` begins, and the end of the last."""
    begin, end, total, longest = 0, -1, 0, 0
    yield begin
    for end, size in enumerate(samples):
        more = longest if padded and end > begin else size
        if end > begin and total + more > seconds * audio.SAMPLE_RATE:
            yield end
            begin, total, more = end, 0, size
        longest = size if end == begin else longest
        total += more
    if end >= 0:
        yield end + 1


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
