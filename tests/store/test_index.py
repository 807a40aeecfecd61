"""`rows.safetensors`: what stands in it, who reads it, and that stores without it are read all the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from stores import of_an_earlier_version, tree

from s3prl_vqpool.store import Row, Store, index, reader
from s3prl_vqpool.store.files import Writer

Stores = Callable[[str], Store]


def lines(folder: Path) -> dict[int, dict[str, Any]]:
    """What the shards' indexes say of each row."""
    found = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {entry.pop("row"): entry for entry in found if "row" in entry}


def written(folder: Path, rows: list[tuple[int, Row]], shards: int) -> dict[str, Any]:
    """Indexes of ``rows`` in a folder, dealt out to ``shards``; the manifest."""
    writer = Writer(folder)
    for shard in range(shards):
        mine = rows[shard::shards]
        writer.write_shard(shard, {"codes": torch.zeros(1)}, *map(list, zip(*mine)))  # type: ignore[arg-type]
    return {"shards": shards, "utterances": len(rows)}


def row(number: int, **changes: Any) -> Row:
    known = {"samples": 400 + number, "length": 1 + number, "label": (number, 7), "sha256": f"{number:064x}"}
    return Row(
        **{
            "id": f"id{number}",
            "path": Path(f"/a/{number}.wav"),
            "start": None,
            "frames": None,
            **known,
            **changes,
        }
    )


def test_columns_are_the_lines_of_the_indexes(stores: Stores) -> None:
    store = stores("large")
    said = lines(store.folder)
    assert len(said) == len(store.utterances) == 12
    for number, utterance in enumerate(store.utterances):
        assert {**asdict(utterance), "path": str(utterance.path), "label": list(utterance.label)} == said[
            number
        ]
        assert store.utterances[number] == utterance
    assert store.labels.tolist() == [said[number]["label"] for number in range(12)]
    assert store.lengths.tolist() == [said[number]["length"] for number in range(12)]
    assert store.utterances[-1] == store.utterances[11] == store.utterances[9:][2]
    with pytest.raises(IndexError):
        store.utterances[12]


def test_anyone_reads_the_columns_in_three_lines(stores: Stores) -> None:
    from safetensors.numpy import load_file

    store = stores("large")
    rows = load_file(store.folder / "rows.safetensors")
    ends = rows["path_end"].tolist()
    paths = [rows["path"][start:end].tobytes().decode() for start, end in zip([0, *ends], ends)]
    assert paths == [str(utterance.path) for utterance in store.utterances]
    np.testing.assert_array_equal(rows["label"], store.labels)


def test_opening_reads_no_index_of_a_shard(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "read_index", lambda *_: pytest.fail("read"))
    store = Store.open(stores("large").folder)
    assert store.labels.shape == (12, 3)
    assert len(store.vectors("AP")) == 12


def test_a_store_of_an_earlier_version_is_read_and_completed(
    stores: Stores, extract: Any, tmp_path: Path
) -> None:
    before = stores("large")
    folder = of_an_earlier_version(Path(shutil.copytree(before.folder, tmp_path / "store")))
    store = Store.open(folder)
    assert store.utterances == before.utterances
    assert list(store.shards) == list(before.shards)
    assert torch.equal(store.codes(3), before.codes(3))
    assert extract("large", folder, "--frames", "--poolings", *store.manifest["poolings"]) == 0
    assert tree(folder) == tree(before.folder)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = st.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name).map(os.fsdecode)
    whole = st.integers(0, 2**61)
    count, shards = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
    slots = data.draw(st.integers(1, 3))
    drawn = [
        Row(
            data.draw(text),
            Path("/", data.draw(text)),
            data.draw(st.none() | whole),
            data.draw(st.none() | st.integers(1, 2**61)),
            data.draw(st.integers(1, 2**61)),
            data.draw(st.integers(1, 999)),
            tuple(data.draw(whole) for _ in range(slots)),
            data.draw(st.binary(min_size=32, max_size=32)).hex(),
            *data.draw(st.just((None, None)) | st.tuples(whole, st.integers(-(2**61), 2**61))),
        )
        for _ in range(count)
    ]
    shards = min(shards, count)
    folder = tmp_path_factory.mktemp("rows")
    order = data.draw(st.permutations(list(enumerate(drawn))))
    manifest = written(folder, list(order), shards)
    assert list(index.read(folder, manifest)) == drawn
    columns = index.gathered(folder, manifest)
    (folder / index.ROWS).write_bytes(b"".join(index.pieces(columns)))
    assert (folder / index.ROWS).read_bytes() == save(columns)
    read = index.read(folder, manifest)
    assert list(read) == drawn
    assert [read[number] for number in range(count)] == drawn
    assert list(read.keys()) == [(str(each.path), each.start, each.frames) for each in drawn]
    for shard in range(shards):
        first = 0
        for place, (number, each) in enumerate(order[shard::shards]):
            assert read.where(number) == (shard, place, first)
            first += each.length
        assert read.frames_of(shard) == first


def test_many_rows_are_made_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_CHUNK", 3)
    manifest = written(tmp_path, [(number, row(number)) for number in range(10)], 2)
    read = index.read(tmp_path, manifest)
    assert [each.id for each in read] == [f"id{number}" for number in range(10)]
    assert [path for path, *_ in read.keys()] == [f"/a/{number}.wav" for number in range(10)]  # noqa: SIM118


@pytest.mark.parametrize("changes", [{"label": (1,)}, {"sha256": "zz"}, {"sha256": "ab"}, {"id": "\ud800"}])
def test_rows_that_no_store_has_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    manifest = written(tmp_path, [(0, row(0)), (1, row(1)), (2, row(2, **changes))], 1)
    with pytest.raises(reader.InputError, match=r"^.*shard-00000\.jsonl: missing, or cannot be read: remove"):
        index.read(tmp_path, manifest)
    manifest = written(tmp_path, [(0, row(0)), (1, row(1, label=(1,)))], 2)
    with pytest.raises(reader.InputError, match="its shards do not belong together"):
        index.read(tmp_path, manifest)


def test_a_thousand_rows_are_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    texts = index.Rows._texts
    monkeypatch.setattr(index.Rows, "_texts", lambda *given: asked.append(given[2:]) or texts(*given))
    read = index.read(tmp_path, written(tmp_path, [(number, row(number)) for number in range(2049)], 1))
    assert len(list(read)) == 2049
    assert asked == [(0, 1024)] * 2 + [(1024, 2048)] * 2 + [(2048, 2049)] * 2
    asked.clear()
    assert len(list(read.keys())) == 2049
    assert asked == [(0, 1024), (1024, 2048), (2048, 2049)]
    assert [each.id for each in read[5:8]] == ["id5", "id6", "id7"]
    assert [read[-1].id, read[2048].id, read[0].id] == ["id2048", "id2048", "id0"]
    with pytest.raises(IndexError):
        read[2049]


def columns(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Those of five sound rows in two shards."""
    manifest = written(tmp_path, [(number, row(number)) for number in range(5)], 2)
    return index.gathered(tmp_path, manifest)


def replaced(tensor: torch.Tensor, place: int | tuple[int, int], value: int) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("name", "place", "value", "sound"),
    [
        *((name, 2, -1, True) for name in ("start", "frames", "bytes", "modified")),
        *((name, 2, -2, name == "modified") for name in ("start", "frames", "bytes", "modified")),
        *((name, 2, 0, sound) for name, sound in (("start", True), ("frames", False), ("bytes", True))),
        *((name, 2, 1, True) for name in ("start", "frames", "samples", "length")),
        *((name, 2, 0, False) for name in ("samples", "length")),
        *((name, 0, value, False) for name in ("shard", "place") for value in (-1, 1, 2)),
        ("label", (2, 0), 0, True),
        ("label", (2, 0), -1, False),
        ("sha256", (2, 0), 255, True),
        *((name, 0, 0, False) for name in ("id", "path")),
        *((f"{name}_end", 0, value, False) for name in ("id", "path") for value in (-1, 10**6)),
        *((f"{name}_end", 4, value, False) for name in ("id", "path") for value in (0, 10**6)),
    ],
)
def test_columns_hold_what_they_may(
    name: str, place: int | tuple[int, int], value: int, sound: bool, tmp_path: Path
) -> None:
    good = columns(tmp_path)
    assert index._sound(index.Rows(good), 2)
    assert not index._sound(index.Rows(good), 1)
    assert not index._sound(index.Rows(good), 3)
    assert index._sound(index.Rows({**good, name: replaced(good[name], place, value)}), 2) == sound


def test_columns_are_of_their_dtypes_and_shapes(tmp_path: Path) -> None:
    good = columns(tmp_path)
    assert index._shaped(good, 5)
    assert not index._shaped(good, 4)
    assert index._shaped({**good, "label": good["label"].repeat(1, 3)}, 5)
    assert index._shaped({**good, "id": good["id"][:0], "path": good["path"][:0]}, 5)
    for name, column in good.items():
        assert not index._shaped({key: each for key, each in good.items() if key != name}, 5), name
        assert not index._shaped({**good, name: column.float()}, 5), name
        assert not index._shaped({**good, name: column[None]}, 5), name
        if name not in ("id", "path"):
            assert not index._shaped({**good, name: column[:4]}, 5), name
    assert not index._shaped({**good, "sha256": good["sha256"][:, :31]}, 5)


def test_rows_are_equal_where_all_columns_are(tmp_path: Path) -> None:
    good = columns(tmp_path)
    assert index.Rows(good) == index.Rows(dict(good))
    assert index.Rows(good) != index.Rows({**good, "length": replaced(good["length"], 4, 99)})
    assert index.Rows(good) != index.Rows({name: each for name, each in good.items() if name != "bytes"})
    assert index.Rows(good) != list(index.Rows(good))
