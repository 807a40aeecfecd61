"""A store may have more shards than a process may map files."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from s3prl_vqpool.files import read_tensors
from s3prl_vqpool.store import Store, reader


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened; there can be 3 at a time, as if the system allowed no more."""
    names: list[str] = []
    mapped: set[int] = set()

    def limited(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        if len(mapped) == 3:
            raise RuntimeError(f"unable to mmap {path}: Cannot allocate memory")
        tensors, metadata = read_tensors(path, kind)
        first = next(iter(tensors.values()))
        mapped.add(id(first))
        weakref.finalize(first, mapped.remove, id(first))
        names.append(Path(path).name)
        return tensors, metadata

    monkeypatch.setattr(reader, "read_tensors", limited)
    monkeypatch.setattr(reader, "_MOST_OPEN", 2)
    return names


def test_all_shards_are_read_with_few_open(stores: Callable[[str], Store], opened: list[str]) -> None:
    store = Store.open(stores("large").folder)
    assert len(store.shards) > 3
    vectors = store.vectors("AP")
    for number, rows in enumerate(store.shards):
        content = load_file(store.folder / f"shard-{number:05}.safetensors")
        lengths = store.lengths[rows].tolist()
        assert torch.equal(vectors[rows], content["vectors.AP"])
        for row, codes, frames in zip(
            rows, content["codes"].split(lengths), content["frames"].split(lengths)
        ):
            assert torch.equal(store.codes(row), codes.long())
            assert torch.equal(store.frames(row), frames)


def test_the_shard_that_was_not_read_for_longest_is_closed(
    stores: Callable[[str], Store], opened: list[str]
) -> None:
    store = Store.open(stores("large").folder)
    first, second, third = (rows[0] for rows in list(store.shards)[:3])
    for row in (first, second, first, third, first, second):
        store.codes(row)
    assert opened == [f"shard-{number:05}.safetensors" for number in (0, 1, 2, 1)]
