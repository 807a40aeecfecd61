"""Reading checkpoints: S3PRL's own come back as written, damaged ones and code are refused in one line."""

import argparse
import errno
import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from s3prl_vqpool import checkpoints
from s3prl_vqpool.checkpoints import torch_files
from s3prl_vqpool.corpora.folders import read_list
from s3prl_vqpool.errors import DamagedCheckpoint, InputError


def s3prl_state() -> dict:
    """What S3PRL's runner saves: tensors, optimiser state, its arguments as a Namespace, its config as dicts."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return {
        "Optimizer": optimizer.state_dict(),
        "Step": 7,
        "Epoch": 1,
        "Args": argparse.Namespace(upstream="wav2vec2_vq", local_rank=None, seed=1337, verbose=False),
        "Config": {"downstream_expert": {"datarc": {"batch_size": 32}, "modelrc": {"pooling": "VQ-LP"}}},
        "Downstream": OrderedDict(model.state_dict()),
        "Featurizer": {"weights": torch.zeros(13)},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
def test_checkpoint_comes_back_as_s3prl_wrote_it(tmp_path: Path, zipped: bool) -> None:
    state, path = s3prl_state(), tmp_path / "states-7.ckpt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    loaded = checkpoints.load(path, required=("Args", "Config", "Optimizer"))
    assert loaded.keys() == state.keys()
    assert loaded["Args"] == state["Args"]
    assert loaded["Config"] == state["Config"]
    assert (loaded["Step"], loaded["Epoch"]) == (7, 1)
    torch.testing.assert_close(loaded["Downstream"], state["Downstream"], rtol=0, atol=0)
    torch.testing.assert_close(loaded["Optimizer"]["state"], state["Optimizer"]["state"], rtol=0, atol=0)
    assert loaded["Optimizer"]["param_groups"] == state["Optimizer"]["param_groups"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_checkpoint_cut_short_is_damaged(tmp_path: Path, zipped: bool, kept: float) -> None:
    whole, path = io.BytesIO(), tmp_path / "cut.ckpt"
    torch.save(s3prl_state(), whole, _use_new_zipfile_serialization=zipped)
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * kept)])
    with pytest.raises(DamagedCheckpoint) as refusal:
        checkpoints.load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"\x80",
        b"hello, I am a text file\n" * 40,
        b"<!DOCTYPE html><html>404</html>",
        bytes(range(256)) * 9,
    ],
    ids=["empty", "zip magic alone", "pickle magic alone", "text", "web page", "bytes"],
)
def test_other_files_are_damaged_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint) as refusal:
        checkpoints.load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_missing_file_and_folder_are_refused_but_not_damaged(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "none.pt", "no such checkpoint"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=problem) as refusal:
            checkpoints.load(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert not isinstance(refusal.value, DamagedCheckpoint)


class RunsCommand:
    """Unpickled as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def write_evil(path: Path, canary: Path, written: str) -> None:
    evil = {"Args": argparse.Namespace(seed=0), "Downstream": RunsCommand(f"touch {canary}")}
    if written.startswith("protocol"):
        path.write_bytes(pickle.dumps(evil, protocol=int(written.split()[1])))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=written == "zip")


@pytest.mark.parametrize(
    "written", ["zip", "legacy format", "protocol 2 without torch", "protocol 4 without torch"]
)
def test_pickle_that_runs_code_is_refused_unrun_with_the_name(tmp_path: Path, written: str) -> None:
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    write_evil(path, canary, written)
    with pytest.raises(InputError) as refusal:
        checkpoints.load(path)
    assert not canary.exists()
    message = str(refusal.value)
    assert message.startswith(f"{path}: refused: it asks to import {os.system.__module__}.system;")
    assert len(message.splitlines()) == 1
    assert not isinstance(refusal.value, DamagedCheckpoint)


def tar_before_a_zip(evil: bytes, benign: bytes) -> bytes:
    """torch's first format, which torch unpickles member by member, in front of a harmless zip."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        none = pickle.dumps(0, 2)
        for name, content in (("PKx", b""), ("storages", none), ("tensors", none), ("pickle", evil)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue() + benign


def zip_before_a_zip(evil: bytes, benign: bytes) -> bytes:
    return zip_of(("x/data.pkl", evil)) + benign


def zip_in_a_comment(evil: bytes, benign: bytes) -> bytes:
    return benign[:-2] + struct.pack("<H", len(evil)) + evil


def one_name_twice(evil: bytes, benign: bytes) -> bytes:
    return zip_of(("x/data.pkl", evil), ("x/data.pkl", pickle.dumps({}, 2)))


def one_name_in_capitals(evil: bytes, benign: bytes) -> bytes:
    return zip_of(("x/DATA.PKL", evil), ("x/data.pkl", pickle.dumps({}, 2)))


def zip_of(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in (*members, ("x/version", b"3\n")):
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "make", [tar_before_a_zip, zip_before_a_zip, zip_in_a_comment, one_name_twice, one_name_in_capitals]
)
def test_file_that_another_reader_takes_for_another_is_damaged(
    tmp_path: Path, make: Callable[[bytes, bytes], bytes]
) -> None:
    path = tmp_path / "two.pt"
    benign = zip_of(("x/data.pkl", pickle.dumps({}, 2)))
    path.write_bytes(benign)
    assert torch_files.read(path) == checkpoints.load(path) == {}
    path.write_bytes(make(pickle.dumps(RunsCommand("true"), 2), benign))
    for reader in (torch_files.read, checkpoints.load):
        with pytest.raises(InputError) as refusal:
            reader(path)
        assert len(str(refusal.value).splitlines()) == 1


def test_namespace_is_no_way_around_the_allowlist(tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    torch.save({"Args": argparse.Namespace(seed=RunsCommand(f"touch {canary}"))}, path)
    with pytest.raises(InputError, match="refused: it asks to import"):
        checkpoints.load(path)
    assert not canary.exists()


def test_missing_keys_are_named_but_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "half.ckpt"
    torch.save({"Args": argparse.Namespace()}, path)
    with pytest.raises(InputError, match=r"it has no 'Config', 'Downstream'\.$") as refusal:
        checkpoints.load(path, required=("Args", "Config", "Downstream"))
    assert not isinstance(refusal.value, DamagedCheckpoint)
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match=r"it has no 'Args'\.$"):
        checkpoints.load(path, required=("Args",))


@pytest.mark.parametrize(
    "failure", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "I/O")]
)
def test_unreadable_files_are_not_damaged_and_downloads_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    path = tmp_path / "whole.ckpt"
    torch.save(s3prl_state(), path)

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("s3prl.util.download.urls_to_filepaths", lambda *_, **__: str(path))
    monkeypatch.setattr("builtins.open", fail)
    monkeypatch.setattr("io.open", fail)
    monkeypatch.setattr(Path, "open", fail)
    readers: list[Callable[[], object]] = [
        lambda: torch_files.read(path),
        lambda: checkpoints.load(path),
        lambda: checkpoints.fetch("http://localhost/whole.ckpt"),
        lambda: read_list(path, "a list"),
    ]
    for reader in readers:
        with pytest.raises(InputError, match=rf"cannot be read \({failure.strerror}\)") as refusal:
            reader()
        assert not isinstance(refusal.value, DamagedCheckpoint)
    assert path.exists()


def test_no_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "whole.ckpt"
    torch.save(s3prl_state(), path)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("s3prl.util.download.urls_to_filepaths", lambda *_, **__: str(path))
    monkeypatch.setattr(torch_files, "_unpickler", fail)
    with pytest.raises(MemoryError):
        checkpoints.fetch("http://localhost/whole.ckpt")
    assert path.exists()


def test_zip_with_one_compressed_member_is_damaged(tmp_path: Path) -> None:
    path, again = tmp_path / "whole.ckpt", tmp_path / "compressed.ckpt"
    torch.save(s3prl_state(), path)
    with zipfile.ZipFile(path) as source:
        members = {member.filename: source.read(member) for member in source.infolist()}
    for chosen in (None, *members):
        with zipfile.ZipFile(again, "w") as target:
            for name, content in members.items():
                target.writestr(name, content, zipfile.ZIP_DEFLATED if name == chosen else zipfile.ZIP_STORED)
        if chosen is None:
            assert checkpoints.load(again)["Step"] == 7
            continue
        with pytest.raises(DamagedCheckpoint):
            checkpoints.load(again)


@pytest.mark.parametrize("odd", [None, 3, {"upstream": "mfcc_vq"}, [1]], ids=str)
def test_args_that_are_no_namespace_are_one_line(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "odd.ckpt"
    torch.save({**s3prl_state(), "Args": odd}, path)
    with pytest.raises(InputError, match="its Args are not a namespace"):
        checkpoints.load(path, required=("Args",))


def test_experiments_may_name_namespaces_and_dicts_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "named.ckpt"
    torch.save({"a": argparse.Namespace(x=1), "b": OrderedDict(y=2)}, path)
    assert checkpoints.load(path) == {"a": argparse.Namespace(x=1), "b": {"y": 2}}
    for other in (Path("x"), complex(1, 2), {1, 2}, torch.Size([1]), torch.float32):
        torch.save({"a": other}, path)
        with pytest.raises(InputError, match=r"it asks to import|damaged"):
            checkpoints.load(path)


@pytest.mark.parametrize("count", [0, 98, 100])
def test_a_storage_has_the_size_that_its_tensor_declares(count: int, tmp_path: Path) -> None:
    """The older format says it twice: in the pickle, and before the numbers."""
    file, path = io.BytesIO(), tmp_path / "short.ckpt"
    torch.save({"Downstream": torch.ones(99)}, file, _use_new_zipfile_serialization=False)
    size = struct.pack("<q", 99)
    assert file.getvalue().count(size) == 1
    path.write_bytes(file.getvalue().replace(size, struct.pack("<q", count)))
    with pytest.raises(DamagedCheckpoint, match="damaged or truncated"):
        checkpoints.load(path)
