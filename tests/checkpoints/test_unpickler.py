"""Pickles as plain data: what their opcodes make, and how much of a file is read."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import pytest

from s3prl_vqpool.checkpoints import unpickler
from s3prl_vqpool.checkpoints.unpickler import (
    Malformed,
    Name,
    Record,
    Unpickler,
    most_pickled,
    parts,
    plain,
)


def read(content: bytes, size: int = 10**6) -> Any:
    return Unpickler(io.BytesIO(content), size, {}, lambda identifier: ("id", identifier), None).load()


PLAIN: dict[str, tuple[int, Any]] = {
    "nested": (0, {"a": [1, 2, (3, 4, 5)], "b": {"c": None, "d": ()}, "e": 1.5, 7: [[True]]}),
    "long": (0, [2**70, -1, 255, 2**31, "x" * 300, "ü"]),
    "many entries": (0, {f"key {k}": k for k in range(3000)}),
    "many items": (0, list(range(3000))),
    "bytes": (3, [b"", b"abc", b"x" * 300]),
    "sets": (4, [{1, "two", 3.0, None}, frozenset({1, "two"}), set(), frozenset()]),
    "bytearray": (5, bytearray(b"abc")),
}


@pytest.mark.parametrize(
    ("name", "protocol"), [(n, p) for n, (least, _) in PLAIN.items() for p in range(least, 6)]
)
def test_plain_data_comes_back_as_pythons_own(name: str, protocol: int) -> None:
    _, value = PLAIN[name]
    assert read(pickle.dumps(value, protocol)) == pickle.loads(pickle.dumps(value, protocol))  # noqa: S301


def test_opcodes_of_python_2_are_read() -> None:
    """DICT, LIST and SETITEM of protocol 0, and APPEND, which later ones write for one item."""
    content = b"(lp0\nI1\naI2\na."
    assert {opcode.name for opcode, _, _ in pickletools.genops(content)} >= {"LIST", "APPEND"}
    assert read(content) == [1, 2]
    assert read(b"(dp0\nI1\nI2\ns.") == {1: 2}
    assert read(b"(I1\nI2\nI3\nI4\nd.") == {1: 2, 3: 4}


@pytest.mark.parametrize(
    "content",
    [
        b"(I1\nI2\nI3\nd.",  # a key without a value
        b"}(I1\nI2\nI3\nu.",
        b"I1\nI2\na.",  # an item of a number
        b"I1\nI2\nI3\ns.",
        b"I1\n}b.",  # a state of a number
        b"I1\nI2\nR.",  # a call of a number
        b"cx\ny\nI2\nR.",  # a call without a tuple
        b"}]I1\ns.",  # a list as a key
        b"I1",  # a line without an end
        b"I1\n",  # nothing more
        b".",
        b"",
        b"\xff.",
    ],
)
def test_what_python_would_not_read_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        read(content)


def test_names_and_objects_are_only_told() -> None:
    made = read(b"cx.y\nZ\n(I1\ntR}S'a'\nI2\nsb.")
    assert isinstance(made, Record)
    assert (made.name, made.state) == (Name("x.y", "Z"), {"a": 2})
    assert read(b"cx.y\nZ\n.") == Name("x.y", "Z")
    with_keywords = read(b"\x80\x04I7\ncx.y\nZ\n(I1\nt}\x92\x86.")  # NEWOBJ_EX
    assert with_keywords[0] == 7
    assert (with_keywords[1].name, with_keywords[1].state) == (Name("x.y", "Z"), None)
    assert read(b"ccollections\nOrderedDict\n(tR.") == {}
    assert isinstance(read(b"ccollections\nOrderedDict\n(I1\ntR."), Record)
    assert read(b"\x80\x02X\x01\0\0\0aQ.") == ("id", "a")


@pytest.mark.parametrize(
    ("size", "most"), [(0, 2**24), (2**27, 2**24), (2**27 + 8, 2**24 + 1), (2**30, 2**27)]
)
def test_a_pickle_is_at_most_16_mib_or_an_eighth_of_its_file(size: int, most: int) -> None:
    assert most_pickled(size) == most
    assert Unpickler(io.BytesIO(), size, {}, lambda _: None, None).bytes_left == most


@pytest.mark.parametrize(("size", "most"), [(0, 200_000), (25_600_000, 200_000), (25_600_128, 200_001)])
def test_a_pickle_has_at_most_200_000_opcodes_or_one_for_128_bytes_of_its_file(size: int, most: int) -> None:
    protocol = b"\x80\x02"  # an opcode that may come again
    assert read(protocol * (most - 2) + b"N.", size) is None
    with pytest.raises(Malformed, match="more opcodes"):
        read(protocol * (most - 1) + b"N.", size)


def test_bytes_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickler, "_FREE_BYTES", 10)
    assert read(b"I1234567\n.", 8) == 1234567  # 10 bytes
    assert read(b"U\x06abcdef.", 8) == "abcdef"  # 9
    for content in (b"I12345678\n.", b"U\x08abcdefgh.", b"I1234567890"):
        with pytest.raises(Malformed, match=r"is longer than|without an end"):
            read(content, 8)


def test_what_occurs_twice_is_converted_once_and_a_circle_ends() -> None:
    shared: list[Any] = [Record(Name("argparse", "Namespace"), {"a": 1})]
    found = plain({"x": shared, "y": shared})
    assert found == {"x": [{"a": 1}], "y": [{"a": 1}]}
    assert found["x"] is found["y"]
    shared.append(shared)
    assert plain(shared) == [{"a": 1}, None]


def test_parts_are_all_that_is_in_a_value_each_once() -> None:
    shared: list[Any] = ["in a list"]
    shared.append(shared)
    record = Record(Name("x", "Y"), {"state": ("in a state", shared)})
    value = {"a": [record, shared], "b": {"c": "in a dict"}}
    found = list(parts(value))
    assert [part for part in found if part is record] == [record]
    assert len([part for part in found if part is shared]) == 1
    assert {part for part in found if isinstance(part, str)} == {"in a list", "in a state", "in a dict"}
    assert found[0] is value
