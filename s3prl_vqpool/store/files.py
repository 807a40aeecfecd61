"""The files of a store: `manifest.json`, per shard its tensors and then its index, then all rows, last `done.json`.

A shard counts as finished once its index is there, and so does a part: the vectors of a shard's utterances under a
pooling that was added later. Every file is written under a temporary name, which says whose it is, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ..errors import InputError
from ..files import Busy, alone, parse_json, sha256
from . import shapes
from .rows import Row

MANIFEST, DONE, STATISTICS = "manifest.json", "done.json", "pooling_statistics.safetensors"
_TEMPORARY = re.compile(r"\..+\.rank(\d+)\.tmp")

Shard = tuple[list[int], list[Row]]


class Writer:
    """Writes the files of one rank of ``world``, and removes what killed processes of that rank left behind."""

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        self.folder, self.rank = folder, rank
        for path, other in _temporaries(folder):
            if other % world == rank and path.name != lock_name(rank):
                path.unlink(missing_ok=True)

    def write(self, name: str, *data: bytes | memoryview) -> None:
        """Write a file of the store, whole; InputError if it cannot be written."""
        temporary = self.folder / f".{name}.rank{self.rank}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"{self.folder / name}: cannot be written ({error.strerror}): the same command continues."
            ) from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the store, whole."""
        self.write(name, f"{json.dumps(content, indent=1)}\n".encode())

    def write_shard(
        self, number: int, tensors: Mapping[str, Tensor], rows: Sequence[int], utterances: Sequence[Row]
    ) -> None:
        """Write the tensors of a shard, then its index: a line about their file, and a line for each utterance."""
        about = {**self._write_tensors(tensors_name(number), tensors), "utterances": len(rows)}
        entries = [{"row": row, **asdict(u), "path": str(u.path)} for row, u in zip(rows, utterances)]
        lines = [json.dumps(entry) + "\n" for entry in (about, *entries)]
        self.write(index_name(number), "".join(lines).encode())

    def write_part(self, number: int, pooling: str, vectors: Tensor, made: Mapping[str, Any]) -> None:
        """Vectors [n, layers, D] of a shard's utterances under a pooling, then what they are and were made with."""
        (self.folder / part_index_name(number, pooling)).unlink(missing_ok=True)  # it may be of others
        about = self._write_tensors(part_name(number, pooling), {f"vectors.{pooling}": vectors})
        self.write_json(part_index_name(number, pooling), {**about, "utterances": len(vectors), "made": made})

    def _write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        self.write(name, data)
        return about_data(name, data)


def _temporaries(folder: Path) -> Iterator[tuple[Path, int]]:
    """Temporary files and locks of ranks, and whose they are."""
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match:
            yield path, int(match[1])


def remove_left(folder: Path, rank: int) -> None:
    """Remove what other ranks than ``rank`` left behind that were killed; call it once all shards are there."""
    for path, other in _temporaries(folder):
        with suppress(Busy):
            if other != rank:
                with alone(folder, lock_name(other)):
                    path.unlink(missing_ok=True)
    for path in folder.glob(".shard-*.lock"):
        path.unlink(missing_ok=True)


def about_data(name: str, *data: bytes | memoryview) -> dict[str, Any]:
    """What is recorded of a file's content: file, sha256, bytes."""
    digest = hashlib.sha256()
    for piece in data:
        digest.update(piece)
    return {"file": name, "sha256": digest.hexdigest(), "bytes": sum(map(len, data))}


def lock_name(rank: int) -> str:
    """The lock of a rank, for `files.alone`. It has the name of what a killed process leaves behind."""
    return f".lock.rank{rank}.tmp"


def shard_lock_name(number: int) -> str:
    """The lock of a shard, for `files.alone`."""
    return f".shard-{number:05}.lock"


def tensors_name(number: int) -> str:
    """File with the tensors of a shard."""
    return f"shard-{number:05}.safetensors"


def index_name(number: int) -> str:
    """File with the index of a shard."""
    return f"shard-{number:05}.jsonl"


def part_name(number: int, pooling: str) -> str:
    """File with the vectors of a shard's utterances under a pooling that was added."""
    return f"shard-{number:05}.{pooling}.safetensors"


def part_index_name(number: int, pooling: str) -> str:
    """File that says what is in the one of `part_name`."""
    return f"shard-{number:05}.{pooling}.json"


def finished(folder: Path, count: int) -> list[bool]:
    """For each shard whether it is there."""
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    return [index_name(number) in present for number in range(count)]


def about_shard(folder: Path, number: int) -> dict[str, Any]:
    """The first line of a shard's index: file, sha256, bytes, utterances; InputError for a damaged one."""
    path = folder / index_name(number)
    try:
        with open(path) as file:
            about = _parsed(file.readline(), shapes.about_shard)
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    return {key: about[key] for key in ("file", "sha256", "bytes", "utterances")}


def about_all(folder: Path, count: int, before: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `done.json`: for each shard the first line of its index, and the hash of the index.

    Args:
        before: its present content. The hash of an index is kept as long as the tensors are the same, so that an
            index that was changed since is still recognised as damaged after extracting again.
    """
    said = {(each.get("file"), each.get("sha256")): each for each in before.get("shards", [])}
    shards = []
    for number in range(count):
        about = about_shard(folder, number)
        known = said.get((about["file"], about["sha256"]), {}).get("index_sha256")
        shards.append({**about, "index_sha256": known or sha256(folder / index_name(number))})
    return {"shards": shards}


def about_part(folder: Path, number: int, pooling: str) -> dict[str, Any] | None:
    """Of a part: file, sha256, bytes, utterances, made; None where it is not there."""
    try:
        return _parsed((folder / part_index_name(number, pooling)).read_text(), shapes.about_part)
    except (OSError, ValueError):
        return None


def read_index(folder: Path, number: int) -> Shard:
    """Row numbers and utterances of a shard, in its order; InputError for a damaged index."""
    path = folder / index_name(number)
    try:
        first, *lines = path.read_text().splitlines()
        entries = [_parsed(line, shapes.row) for line in lines]
        if len(entries) != _parsed(first, shapes.about_shard)["utterances"]:
            raise ValueError("lines are missing")
        rows = [entry.pop("row") for entry in entries]
        return rows, [
            Row(**{**entry, "path": Path(entry["path"]), "label": tuple(entry["label"])}) for entry in entries
        ]
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path) from error


def unreadable_index(folder: Path, number: int) -> InputError:
    """What is said of a shard's index that is missing or damaged."""
    return _unreadable(folder / index_name(number))


def read_json(path: Path) -> dict[str, Any]:
    """Read a store's manifest, or its `DONE`; InputError if it is damaged."""
    try:
        return _parsed(path.read_text(), shapes.manifest if path.name == MANIFEST else shapes.done)
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error


def _parsed(text: str, shape: shapes.Test) -> dict[str, Any]:
    """The content of a JSON text; ValueError where it has not the ``shape``."""
    content = parse_json(text, "", "")
    if not shape(content):
        raise ValueError("it has not the keys and values that a store writes")
    return content


def again(path: Path) -> str:
    """The advice for a damaged file that extraction makes again."""
    return f"remove {path}, and the same vqpool extract makes it again"


def _unreadable(path: Path) -> InputError:
    remedy = f"remove {path.parent} and extract again" if path.name == MANIFEST else again(path)
    return InputError(f"{path}: missing, or cannot be read: {remedy}.")
