"""`rows.safetensors`: the rows of a store as columns, which are memory-mapped.

It is made of the shards' indexes once all are there. A store without it is of an earlier version, or its file was
removed: then the columns are made in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..corpora.packed import Made
from ..errors import InputError
from ..files import read_tensors
from .files import again, read_index, unreadable_index
from .rows import Row

ROWS = "rows.safetensors"

_NUMBERS = {"start": -1, "frames": -1, "samples": 1, "length": 1, "bytes": -1, "shard": 0, "place": 0}
"""Columns int64 [N], and their least values; -1 stands for None."""
_OTHERS = {"modified": torch.int64, "label": torch.int64, "sha256": torch.uint8}
_TEXTS = ("id", "path")
"""UTF-8 of all rows one after the other, uint8; ``_end`` [N] says where each ends."""
_CHUNK = 1024
"""Rows that are made at once."""


class Rows(Made[Row]):
    """The rows of a store in the order of its list. A `Row` is made when it is asked for.

    Attributes:
        columns: ``start``, ``frames``, ``samples``, ``length``, ``bytes``, ``modified``, ``shard``, ``place`` int64
            [N]; ``label`` int64 [N, slots]; ``sha256`` uint8 [N, 32]; ``id`` and ``path`` uint8 with ``id_end`` and
            ``path_end`` int64 [N]. -1 is None.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = {name: column.numpy() for name, column in columns.items()}

    def __len__(self) -> int:
        return len(self.columns["samples"])

    def _made(self, place: int) -> Row:
        return next(self._between(place, place + 1))

    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), _CHUNK):
            yield from self._between(first, min(first + _CHUNK, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        return self.columns.keys() == other.columns.keys() and all(
            np.array_equal(column, other.columns[name]) for name, column in self.columns.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> Iterator[tuple[str, int | None, int | None]]:
        """Path, start and frames of each row."""
        for first in range(0, len(self), _CHUNK):
            last = min(first + _CHUNK, len(self))
            yield from zip(self._texts("path", first, last), *self._optional(first, last, "start", "frames"))

    @cached_property
    def order(self) -> np.ndarray:
        """The rows int64 [N], shard after shard, in the order of each."""
        return np.lexsort((self.columns["place"], self.columns["shard"]))

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where in `order` each shard begins, and the end of the last, int64 [shards + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.columns["shard"]))])

    @cached_property
    def _ends(self) -> np.ndarray:
        """Frames up to the end of each place of `order`, int64 [1 + N]; the first is 0."""
        return np.concatenate([[0], np.cumsum(self.columns["length"][self.order])])

    def frames_of(self, shard: int) -> int:
        """Frames of all utterances of a shard."""
        first, last = self.bounds[shard : shard + 2]
        return int(self._ends[last] - self._ends[first])

    def places(self, rows: Sequence[int]) -> tuple[list[int], list[int]]:
        """Shard of each row, and its place there."""
        wanted = np.array(rows, dtype=np.int64)
        return self.columns["shard"][wanted].tolist(), self.columns["place"][wanted].tolist()

    def where(self, row: int) -> tuple[int, int, int]:
        """Shard of a row, its place there, and its first frame in the shard."""
        shard, place = int(self.columns["shard"][row]), int(self.columns["place"][row])
        first = self.bounds[shard]
        return shard, place, int(self._ends[first + place] - self._ends[first])

    def _between(self, first: int, last: int) -> Iterator[Row]:
        columns = self.columns
        starts, frames, sizes = self._optional(first, last, "start", "frames", "bytes")
        samples, length, modified, label = (
            columns[name][first:last].tolist() for name in ("samples", "length", "modified", "label")
        )
        ids, paths = (self._texts(name, first, last) for name in _TEXTS)
        for k in range(last - first):
            stamp = (None, None) if sizes[k] is None else (sizes[k], modified[k])
            sha256 = columns["sha256"][first + k].tobytes().hex()
            path, classes = Path(paths[k]), tuple(label[k])
            yield Row(ids[k], path, starts[k], frames[k], samples[k], length[k], classes, sha256, *stamp)

    def _optional(self, first: int, last: int, *names: str) -> list[list[int | None]]:
        return [
            [None if value < 0 else value for value in self.columns[name][first:last].tolist()]
            for name in names
        ]

    def _texts(self, name: str, first: int, last: int) -> list[str]:
        ends = self.columns[f"{name}_end"][max(first - 1, 0) : last].tolist()
        ends = [0, *ends] if first == 0 else ends
        block = self.columns[name][ends[0] : ends[-1]].tobytes()
        return [os.fsdecode(block[a - ends[0] : b - ends[0]]) for a, b in pairwise(ends)]


def read(folder: Path, manifest: Mapping[str, Any]) -> Rows:
    """The rows of a complete store.

    Raises:
        InputError: a damaged file; shards that do not belong together.
    """
    path = folder / ROWS
    if not path.exists():
        return Rows(gathered(folder, manifest))
    wrong = InputError(f"{path}: cannot be read: {again(path)}.")
    try:
        columns, _ = read_tensors(path, "a store's rows")
    except InputError as error:
        raise wrong from error
    if not _shaped(columns, manifest["utterances"]) or not _sound(Rows(columns), manifest["shards"]):
        raise wrong
    return Rows(columns)


def pieces(columns: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The content of `ROWS`, piece by piece: what `safetensors.torch.save` makes of the columns."""
    arrays = {name: column.numpy() for name, column in columns.items()}
    header, end = {}, 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = arrays[name] = arrays.pop(name)
        begin, end = end, end + array.nbytes
        kind = "U8" if array.dtype == np.uint8 else "I64"
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        yield array.reshape(-1).view(np.uint8).data


def gathered(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """The columns, made of the shards' indexes.

    Raises:
        InputError: a damaged index, or shards that do not belong together.
    """
    shards = [_columns(folder, number) for number in range(manifest["shards"])]
    wrong = InputError(f"{folder}: its shards do not belong together: remove it and extract again.")
    number = _joined(shards, "row")
    order = np.argsort(number, kind="stable")
    if not np.array_equal(number[order], np.arange(manifest["utterances"])):
        raise wrong
    columns: dict[str, np.ndarray] = {}
    try:
        for name in [name for name in shards[0] if name not in _TEXTS]:
            columns[name] = _joined(shards, name)[order]
    except ValueError as error:  # labels of another number of slots
        raise wrong from error
    for name in _TEXTS:
        ends = np.cumsum(columns[f"{name}_end"][np.argsort(order)])
        columns[name] = _in_order(_joined(shards, name), ends, order)
        columns[f"{name}_end"] = np.cumsum(columns[f"{name}_end"])
    return {name: torch.from_numpy(np.ascontiguousarray(columns[name])) for name in sorted(columns)}


def _joined(shards: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """A column of all shards, which is taken out of each."""
    return np.concatenate([shard.pop(name) for shard in shards])


def _in_order(block: np.ndarray, ends: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The texts of a block that end at ``ends``, in another order."""
    view, made = block.data, bytearray()
    for first in range(0, len(order), _CHUNK):
        places = order[first : first + _CHUNK]
        begins = np.where(places > 0, ends[places - 1], 0)
        made += b"".join(view[a:b] for a, b in zip(begins.tolist(), ends[places].tolist()))
    return np.frombuffer(made, np.uint8)


def _columns(folder: Path, number: int) -> dict[str, np.ndarray]:
    """The columns of a shard, with ``row``; in place of ``_end`` the length of each text."""
    rows, utterances = read_index(folder, number)
    optional = {
        name: [-1 if (value := getattr(each, name)) is None else value for each in utterances]
        for name in ("start", "frames", "bytes")
    }
    try:
        numbers: dict[str, Any] = {
            **optional,
            "row": rows,
            "samples": [each.samples for each in utterances],
            "length": [each.length for each in utterances],
            "modified": [each.modified or 0 for each in utterances],
            "shard": [number] * len(rows),
            "place": list(range(len(rows))),
            "label": [each.label for each in utterances],
        }
        columns: dict[str, np.ndarray] = {
            name: np.array(values, dtype=np.int64) for name, values in numbers.items()
        }
        hashes = b"".join(bytes.fromhex(each.sha256) for each in utterances)
        columns["sha256"] = np.frombuffer(hashes, np.uint8).reshape(len(rows), 32)
        for name in _TEXTS:
            texts = [os.fsencode(getattr(each, name)) for each in utterances]
            columns[f"{name}_end"] = np.array([len(text) for text in texts], dtype=np.int64)
            columns[name] = np.frombuffer(b"".join(texts), np.uint8)
    except ValueError as error:  # other hashes, labels of different lengths, no UTF-8
        raise unreadable_index(folder, number) from error
    return columns


def _shaped(columns: Mapping[str, Tensor], count: int) -> bool:
    """Whether all columns are there, of their dtypes and of ``count`` rows."""
    dtypes = {**dict.fromkeys(_NUMBERS, torch.int64), **_OTHERS}
    dtypes |= {f"{name}_end": torch.int64 for name in _TEXTS}
    return (
        all(name in columns and columns[name].dtype == dtype for name, dtype in dtypes.items())
        and all(columns[name].shape == (count,) for name in dtypes if name not in ("label", "sha256"))
        and columns["label"].ndim == 2
        and len(columns["label"]) == count
        and columns["sha256"].shape == (count, 32)
        and all(
            name in columns and columns[name].dtype == torch.uint8 and columns[name].ndim == 1
            for name in _TEXTS
        )
    )


def _sound(rows: Rows, shards: int) -> bool:
    """Whether the columns' values can be those of ``shards`` shards."""
    columns = rows.columns
    if any(columns[name].min() < least for name, least in _NUMBERS.items()):
        return False
    if (
        columns["label"].min(initial=0) < 0
        or (columns["frames"] == 0).any()
        or columns["shard"].max() >= shards
    ):
        return False
    sizes = np.bincount(columns["shard"], minlength=shards)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return bool(
        sizes.all()
        and np.array_equal(columns["place"][rows.order], places)
        and all(_sound_texts(columns[name], columns[f"{name}_end"]) for name in _TEXTS)
    )


def _sound_texts(block: np.ndarray, ends: np.ndarray) -> bool:
    return bool(ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] == len(block) and block.all())
