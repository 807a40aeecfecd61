"""Damaged and hostile checkpoint files: nothing of them runs, memory stays bounded, and it ends in one line."""

import argparse
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from s3prl_vqpool import checkpoints
from s3prl_vqpool.checkpoints import fairseq, torch_files
from s3prl_vqpool.errors import DamagedCheckpoint, InputError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])


def whole(zipped: bool) -> bytes:
    """A small checkpoint of fairseq's kind."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "args": argparse.Namespace(arch="wav2vec2", conv_feature_layers="[(8, 10, 5)]", normalize=False),
        "cfg": None,
        "model": {f"layer.{i}.weight": torch.randn(9, 11, generator=generator) for i in range(6)},
        "optimizer_history": [{"num_updates": 400000, "lr": 5e-4}],
    }
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def outcome(path: Path) -> str:
    """ "read", or the one line; anything else than InputError is a failure of the test."""
    line = "read"
    try:
        fairseq.load(path)
    except InputError as error:
        line = str(error)
    assert line == "read" or line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1
    return line


@FORMATS
def test_flipped_bits_of_s3prls_checkpoints_are_read_or_refused_in_one_line(
    tmp_path: Path, zipped: bool
) -> None:
    file, path, generator = io.BytesIO(), tmp_path / "flipped.ckpt", random.Random(2)
    state = {
        "Args": argparse.Namespace(seed=1),
        "Downstream": {f"w{i}": torch.zeros(3) for i in range(9)},
        "Step": 7,
    }
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    for _ in range(600):
        damaged = bytearray(file.getvalue())
        for _ in range(generator.choice((1, 1, 4, 16))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            checkpoints.load(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017


@FORMATS
def test_truncation_at_every_percent_is_damage(tmp_path: Path, zipped: bool) -> None:
    content, path = whole(zipped), tmp_path / "cut.pt"
    for percent in range(100):
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(DamagedCheckpoint):
            fairseq.load(path)
    path.write_bytes(content[:-1])
    if not zipped:  # a zip's last byte is the length of a comment: none either way
        with pytest.raises(DamagedCheckpoint):
            fairseq.load(path)


@FORMATS
def test_flipped_bits_are_read_or_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    content, path, generator = whole(zipped), tmp_path / "flipped.pt", random.Random(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(generator.choice((1, 1, 1, 4, 16))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        refused += outcome(path) != "read"
    assert refused > 100


@FORMATS
def test_overwritten_stretches_are_read_or_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    content, path, generator = whole(zipped), tmp_path / "overwritten.pt", random.Random(1)
    for _ in range(500):
        damaged, start = bytearray(content), generator.randrange(len(content))
        count = generator.choice((1, 4, 8, 64))
        damaged[start : start + count] = generator.choice(
            (generator.randbytes(count), b"\xff" * count, b"\0" * count, b"}" * count)
        )
        path.write_bytes(damaged)
        outcome(path)


# ---------------------------------------------------------------------------------------- pickles that would call
def save_zip(path: Path, pickled: bytes, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", b"3\n")
        for name, content in members.items():
            archive.writestr(f"x/data/{name}", content)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


class Exploit:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def evil_pickles(command: str) -> dict[str, bytes]:
    """Pickles that run ``command`` where they are trusted, one for each opcode that calls; and odd ones."""
    module, argument = os.system.__module__, text(command)
    system, namespace = f"c{module}\nsystem\n".encode(), b"\x80\x02cargparse\nNamespace\n"
    return {
        "GLOBAL REDUCE": b"\x80\x02" + system + argument + b"\x85R.",
        "STACK_GLOBAL REDUCE": b"\x80\x04" + text(module) + text("system") + b"\x93" + argument + b"\x85R.",
        "INST": b"(" + argument + f"i{module}\nsystem\n.".encode(),
        "OBJ": b"(" + system + argument + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(" + text("touch") + b"t\x81.",
        "NEWOBJ Popen": b"\x80\x02csubprocess\nPopen\n" + b"(" + argument + b"\x85t\x81.",
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n" + argument + b"\x85}" + text("shell") + b"\x88s\x92.",
        "BUILD __setstate__": namespace + b")\x81}" + text("__setstate__") + system + b"sb" + argument + b"b.",
        "BUILD on a function": b"\x80\x02" + system + b"}" + text("x") + b"K\x01sb.",
        "BUILD on a class": namespace + b"(N}" + text("__init__") + b"Nst" + b"b.",
        "GLOBAL eval": b"\x80\x02c__builtin__\neval\n" + text(f"__import__('os').system({command!r})") + b"\x85R.",
        "GLOBAL getattr": b"\x80\x02c__builtin__\ngetattr\n" + namespace[2:] + text("__class__") + b"\x86R.",
        "GLOBAL dotted": b"\x80\x04" + text("argparse") + text("_sys.modules") + b"\x93.",
        "GLOBAL dotted, listed": b"\x80\x04" + text("collections") + text("OrderedDict.__init__") + b"\x93)R.",
        "GLOBAL torch.load": b"\x80\x02ctorch\nload\n" + argument + b"\x85R.",
        "GLOBAL _load_from_bytes": b"\x80\x02ctorch.storage\n_load_from_bytes\n" + argument + b"\x85R.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\0.",
        "EXT4": b"\x80\x02\x84\x01\0\0\0.",
        "PERSID": b"Pstorage\n.",
        "BINPERSID": b"\x80\x02" + text("storage") + b"Q.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "REDUCE of a namespace": namespace + argument + b"\x85R.",
        "REDUCE of defaultdict": b"\x80\x02ccollections\ndefaultdict\n" + system + b"\x85R.",
        "defaultdict entry": b"\x80\x02ccollections\ndefaultdict\n" + system + b"\x85RK\x01s.",
    }  # fmt: skip


@pytest.mark.parametrize("name", evil_pickles(""))
@pytest.mark.parametrize("container", ["zip", "bare", "legacy"])
def test_pickle_that_would_call_is_refused_unrun(tmp_path: Path, name: str, container: str) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"
    pickled = evil_pickles(f"touch {canary}")[name]
    if container == "zip":
        save_zip(path, pickled)
    elif container == "bare":
        path.write_bytes(pickled)
    else:
        head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in head) + pickled)
    assert outcome(path) != "read"
    assert not canary.exists()


def test_some_of_these_pickles_do_call_where_they_are_trusted(tmp_path: Path) -> None:
    for name in ("GLOBAL REDUCE", "STACK_GLOBAL REDUCE", "INST", "OBJ", "GLOBAL eval"):
        canary = tmp_path / name.replace(" ", "_")
        pickle.loads(evil_pickles(f"touch {canary}")[name])  # noqa: S301
        assert canary.exists(), name


USED: dict[str, Callable[[Exploit], dict]] = {
    "a weight": lambda evil: {"model": {"a": evil}, "args": argparse.Namespace()},
    "the weights": lambda evil: {"model": evil, "args": argparse.Namespace()},
    "args": lambda evil: {"model": {"a": torch.zeros(2)}, "args": evil},
    "layers": lambda evil: {"model": {"a": torch.zeros(2)}, "args": argparse.Namespace(conv_feature_layers=evil)},
    "cfg": lambda evil: {"model": {"a": torch.zeros(2)}, "cfg": evil},
    "cfg.model": lambda evil: {"model": {"a": torch.zeros(2)}, "cfg": {"model": evil, "task": {}}},
}  # fmt: skip


@FORMATS
@pytest.mark.parametrize("place", USED)
def test_call_in_what_is_used_is_refused_by_name(tmp_path: Path, place: str, zipped: bool) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"
    torch.save(USED[place](Exploit(f"touch {canary}")), path, _use_new_zipfile_serialization=zipped)
    assert f"refused: it asks to import {os.system.__module__}.system;" in outcome(path)
    assert not canary.exists()


@FORMATS
def test_call_in_what_is_not_used_is_passed_over_unrun(tmp_path: Path, zipped: bool) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"
    evil, weights = Exploit(f"touch {canary}"), {"a": torch.zeros(2)}
    state = {"model": weights, "args": argparse.Namespace(seed=evil), "task_state": {"x": [evil]}}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert outcome(path) == "read"
    with pytest.raises(InputError, match="refused: it asks to import"):  # S3PRL would run it
        fairseq.check(path)
    assert not canary.exists()


# -------------------------------------------------------------------------------------------------- memory
def one_byte_opcodes(path: Path) -> None:
    path.write_bytes(b"")
    save_zip(path, b"\x80\x02" + b"}" * 6_000_000 + b".")


def declared_string(path: Path) -> None:
    save_zip(path, b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.")


def declared_string_without_zip(path: Path) -> None:
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.")


def declared_bytearray(path: Path) -> None:
    save_zip(path, b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"abc.")


def large_memo_index(path: Path) -> None:
    save_zip(path, b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".")


def deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + b"N0" * 100_000_000 + b"N.")


def declared_member(path: Path) -> None:
    save_zip(path, b"\x80\x02}.", a=b"123")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)  # sizes of the first member
    path.write_bytes(content)


def tensor_call(count: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickled _rebuild_tensor_v2 of a storage "0" with ``count`` elements."""

    def integers(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x09" + n.to_bytes(9, "little") for n in numbers) + b"t"

    storage = (
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + integers((count,))[1:-1]
        + b"tQ"
    )
    return (
        b"\x80\x02}" + text("model") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0"
        + integers(shape) + integers(strides) + b"\x89}tRs."
    )  # fmt: skip


def declared_storage(path: Path) -> None:
    save_zip(path, tensor_call(2**40, (2**40,), (1,)), **{"0": bytes(16)})


def expanded_tensor(path: Path) -> None:
    save_zip(path, tensor_call(4, (2**20, 2**20), (0, 0)), **{"0": bytes(16)})


def tuples_in_tuples_as_a_key(path: Path) -> None:
    save_zip(path, b"\x80\x02})" + b"\x85" * 190_000 + b"Ns.")


def tuples_in_tuples_in_a_set(path: Path) -> None:
    save_zip(path, b"\x80\x02cbuiltins\nset\n])" + b"\x85" * 150_000 + b"a\x85R.")


def tuples_in_tuples_as_an_ordered_dicts_key(path: Path) -> None:
    save_zip(path, b"\x80\x02ccollections\nOrderedDict\n])" + b"\x85" * 150_000 + b"N\x86a\x85R.")


def lists_in_lists(path: Path) -> None:
    save_zip(
        path,
        b"\x80\x02}(" + text("args") + b"(" + b"]" * 90_000 + b"a" * 89_999 + b"0" + text("model") + b"}u.",
    )


def copies_of_one_string(path: Path) -> None:
    string, copy = text("a" * (2**20 - 100)) + b"q\1", b"h\0h\1\x85Ra"
    save_zip(path, b"\x80\x02cbuiltins\nlist\nq\0" + string + b"]" + copy * 100 + b".")


def copies_of_one_list(path: Path) -> None:
    items = b"](" + b"N" * 100_000 + b"eq\1"
    save_zip(path, b"\x80\x02cbuiltins\nlist\nq\0" + items + b"]" + b"h\0h\1\x85Ra" * 500 + b".")


def namespaces_of_one_dict(path: Path) -> None:
    state = b"}(" + b"".join(text(str(i)) + b"N" for i in range(40_000)) + b"uq\1"
    save_zip(path, b"\x80\x02cargparse\nNamespace\nq\0" + state + b"]" + b"h\0)\x81h\1ba" * 300 + b".")


#: 50 lists, each twice in the next: 2^50 entries when written out.
DOUBLED = b"]q\0" + b"".join(b"](h%ch%ce" % (i, i) + b"q" + bytes([i + 1]) for i in range(48))


def module_of_lists_doubled_fifty_times(path: Path) -> None:
    save_zip(path, b"\x80\x04" + DOUBLED + text("member") + b"\x93.")


def doubled_fifty_times(path: Path) -> None:
    save_zip(path, b"\x80\x02}(" + text("cfg") + DOUBLED + text("model") + b"}" + text("a") + b"K\1su.")


BOMBS: list[Callable[[Path], None]] = [
    one_byte_opcodes, declared_string, declared_string_without_zip, declared_bytearray, large_memo_index, deflated,
    declared_member, declared_storage, expanded_tensor, tuples_in_tuples_as_a_key, tuples_in_tuples_in_a_set,
    tuples_in_tuples_as_an_ordered_dicts_key, lists_in_lists, copies_of_one_string, copies_of_one_list,
    namespaces_of_one_dict, module_of_lists_doubled_fifty_times, doubled_fifty_times,
]  # fmt: skip

MEASURE = """
import resource, sys
import torch
from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.errors import InputError
fairseq.torch_files.read(sys.argv[1])  # a first file, so that what is imported late is there
for path in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        fairseq.load(path)
        print("read", end=" ")
    except InputError as error:
        print("one_line" if len(str(error).splitlines()) == 1 else "lines", end=" ")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def measured(paths: list[Path], first: Path) -> list[tuple[str, int]]:
    """Per file, read in one fresh process: how it ended and by how many MiB the peak memory rose."""
    argv = [sys.executable, "-W", "ignore", "-c", MEASURE, str(first), *map(str, paths)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line.split() for line in ran.stdout.splitlines()]
    return [(ending, int(kilobytes) // 1024) for ending, kilobytes in lines]


def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    first, paths = tmp_path / "first.pt", []
    torch.save({"a": torch.zeros(3)}, first)
    for bomb in BOMBS:
        paths.append(tmp_path / f"{bomb.__name__}.pt")
        bomb(paths[-1])
    for path, (ending, mebibytes) in zip(paths, measured(paths, first), strict=True):
        assert ending == "one_line", path.name
        # twice the file and what 200,000 opcodes make
        assert mebibytes < 2 * path.stat().st_size / 2**20 + 64, path.name


def test_zip_bombs_are_no_checkpoints_of_s3prls_either(tmp_path: Path) -> None:
    for bomb in (deflated, declared_member):
        bomb(tmp_path / "bomb.ckpt")
        with pytest.raises(DamagedCheckpoint):
            checkpoints.load(tmp_path / "bomb.ckpt")


def test_reading_holds_no_copy_of_the_tensors(tmp_path: Path) -> None:
    first, large, legacy = tmp_path / "first.pt", tmp_path / "large.pt", tmp_path / "legacy.pt"
    torch.save({"a": torch.zeros(3)}, first)
    state = {"model": {f"w{i}": torch.zeros(2**20) for i in range(50)}, "args": argparse.Namespace(seed=0)}
    torch.save(state, large)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    for ending, mebibytes in measured([large, legacy], first):
        assert ending == "read"
        assert mebibytes < 20  # of 200: they stay in the file until they are used


def test_reader_of_a_compressed_or_foreign_zip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DamagedCheckpoint):
        torch_files.read(path)
