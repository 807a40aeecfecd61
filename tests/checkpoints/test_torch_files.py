"""What a file says of its storages and tensors is believed only where it is whole and fits."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from s3prl_vqpool.checkpoints import torch_files
from s3prl_vqpool.checkpoints.unpickler import Malformed, Name
from s3prl_vqpool.errors import InputError

FLOATS = Name("torch", "FloatStorage")


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (("storage", FLOATS, "7", "cpu", 3), (torch.float32, "7", 3)),
        (("storage", Name("torch", "BoolStorage"), 7, "cpu", 0), (torch.bool, "7", 0)),
        (("storage", FLOATS, "7", "cpu", 3, None), (torch.float32, "7", 3)),
    ],
)
def test_a_storage_is_named_by_five_things(identifier: tuple, expected: tuple) -> None:
    assert torch_files._storage(identifier) == expected


@pytest.mark.parametrize(
    "identifier",
    [
        ("module", FLOATS, "7", "cpu", 3),
        ("storage", "torch.FloatStorage", "7", "cpu", 3),
        ("storage", FLOATS, "7", "cpu", 3.0),
        ("storage", FLOATS, "7", "cpu", True),
        ("storage", FLOATS, "7", "cpu", -1),
        ("storage", FLOATS, "7", "cpu", 3, ("view", 0, 1)),
    ],
)
def test_what_names_no_storage_is_malformed(identifier: tuple) -> None:
    with pytest.raises(Malformed):
        torch_files._storage(identifier)


def test_a_tensor_is_a_view_of_its_storage() -> None:
    storage = torch.arange(6.0)
    for offset, shape, strides in ((0, (6,), (1,)), (1, (2, 2), (2, 1)), (5, (), ()), (2, (0, 3), (1, 1))):
        expected = torch.as_strided(storage, shape, strides, offset)
        found = torch_files._rebuild(storage, offset, shape, strides, False, {})
        assert torch.equal(found, expected)
        assert found.data_ptr() == expected.data_ptr()


@pytest.mark.parametrize(
    "given",
    [
        (b"abcdef", 0, (6,), (1,)),
        (torch.arange(6.0), -1, (1,), (1,)),
        (torch.arange(6.0), None, (1,), (1,)),
        (torch.arange(6.0), 0, [6], (1,)),
        (torch.arange(6.0), 0, (6,), [1]),
        (torch.arange(6.0), 0, (6.0,), (1,)),
        (torch.arange(6.0), 0, (-6,), (1,)),
        (torch.arange(6.0), 0, (6,), (-1,)),
        (torch.arange(6.0), 0, (6,), (1, 1)),
        (torch.arange(6.0), 0, (7,), (0,)),
        (torch.arange(6.0), 0, (2, 4), (0, 0)),
    ],
    ids=str,
)
def test_what_is_no_tensor_of_its_storage_is_malformed(given: tuple[Any, ...]) -> None:
    with pytest.raises(Malformed):
        torch_files._rebuild(*given)


def test_views_lie_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(struct.pack("<5f", 0, 1, 2, 3, 4) + b"\7")
    storages = torch_files.Storages(path, 21)
    assert storages.view(4, torch.float32, 4).tolist() == [1, 2, 3, 4]
    assert storages.view(20, torch.uint8, 1).tolist() == [7]
    assert storages.view(21, torch.uint8, 0).tolist() == []
    assert storages.view(0, torch.float32, 5).data_ptr() == storages.bytes.data_ptr()
    assert storages.view(4, torch.float32, 4).data_ptr() == storages.bytes.data_ptr() + 4
    path.write_bytes(b"\7" + struct.pack("<5f", 0, 1, 2, 3, 4))
    odd = torch_files.Storages(path, 21)
    assert odd.view(1, torch.float32, 5).tolist() == [0, 1, 2, 3, 4]  # copied, as torch wants it aligned
    assert odd.view(1, torch.float32, 5).data_ptr() % 4 == 0
    for offset, dtype, count in (
        (20, torch.uint8, 2),
        (22, torch.uint8, 0),
        (-1, torch.uint8, 1),
        (8, torch.uint8, -1),
        (4, torch.float32, 5),
        (0, torch.float32, 6),
    ):
        with pytest.raises(Malformed, match="beyond the end"):
            storages.view(offset, dtype, count)
    with pytest.raises(Malformed, match="empty"):
        torch_files.Storages(path, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x18"),  # the magic
        (b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."),  # 1001, the protocol
        (b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        (struct.pack("<q", 3), struct.pack("<q", 2)),
    ],
)
def test_each_part_of_the_old_format_counts(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.tensor([1.0, 2.0, 3.0])}, path, _use_new_zipfile_serialization=False)
    assert torch_files.read(path)["a"].tolist() == [1, 2, 3]
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(InputError):
        torch_files.read(path)


def test_storages_of_the_old_format_are_told_apart(tmp_path: Path) -> None:
    """Several, of several sizes, one of them shared; whatever follows the object is read too."""
    shared = torch.arange(7.0)
    state = {"a": shared[:3], "b": shared[2:], "c": torch.arange(5, dtype=torch.int16), "d": torch.ones(2, 2)}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = torch_files.read(tmp_path / "old.pt")
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    found["a"][2] = 9
    assert found["b"][0] == 9


def test_the_directory_of_a_zip_is_where_its_end_says(tmp_path: Path) -> None:
    """Of a large one, as torch writes all, where the record says that the locator leads to."""
    record = b"PK\6\6" + bytes(44) + struct.pack("<Q", 2**40 + 7)
    locator = b"PK\6\7" + bytes(4) + struct.pack("<Q", 900) + bytes(4)
    end = b"PK\5\6" + bytes(12) + struct.pack("<I", 1234) + bytes(2)
    assert (len(record), len(locator), len(end)) == (56, 20, 22)

    def directory(content: bytes, size: int = 998) -> int:
        return torch_files._directory(io.BytesIO(bytes(size - len(content)) + content), size)

    assert directory(record + locator + end) == 2**40 + 7
    assert directory(end) == directory(bytes(20) + end) == 1234
    assert directory(end, 22) == 1234
    for wrong in (
        record + locator + end[:-1] + b"\1",
        record + locator + b"PK\5\7" + end[4:],
        b"PK\6\5" + record[4:] + locator + end,
        record + locator[:8] + struct.pack("<Q", 901) + locator[16:] + end,
        b"",
    ):
        with pytest.raises(Malformed, match="no end of a"):
            directory(wrong)
