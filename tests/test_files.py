"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from s3prl_vqpool.checkpoints import torch_files
from s3prl_vqpool.corpora.folders import files_below
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import (
    Busy,
    alone,
    asked_for,
    read_tensors,
    remove_parts,
    sha256,
    walk,
    whole,
    write_tensors,
    write_text,
)
from s3prl_vqpool.report.page.found import below


def test_whole_leaves_the_old_file_and_nothing_else_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def half() -> None:
        with whole(path) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        half()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"table.csv": "old"}


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.wav").touch()
    assert [name for _, _, names in walk(tmp_path) for name in names] == ["a.wav"]
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for search in (
        lambda: list(walk(tmp_path)),
        lambda: files_below(tmp_path, [".wav"]),
        lambda: below([tmp_path]),
    ):
        with pytest.raises(PermissionError, match="locked"):
            search()


def test_whole_shows_nothing_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_whole_gives_every_file_the_users_permissions(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with whole(tmp_path / "codebook.safetensors") as temporary:
            safetensors.torch.save_file({"x": torch.zeros(1)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "codebook.safetensors").stat().st_mode) == mode


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_alone_refuses_a_second_process_and_names_the_first(tmp_path: Path, elsewhere: Callable) -> None:
    folder = tmp_path / "a" / "b"
    first = elsewhere(lambda: alone(folder))
    with pytest.raises(Busy) as refused, alone(folder):
        pass
    assert str(refused.value) == (
        f"{folder}: process {first.pid} on {socket.gethostname()} is writing there: wait until it ends, or end it."
    )
    with alone(folder, ".other"):
        pass


def test_alone_is_not_blocked_by_a_process_that_was_killed(tmp_path: Path, elsewhere: Callable) -> None:
    first = elsewhere(lambda: alone(tmp_path))
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with alone(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert list(tmp_path.iterdir()) == []


def test_alone_is_not_passed_on_to_workers(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with alone(tmp_path):
        worker.start()
    try:
        second = multiprocessing.get_context("fork").Process(target=lambda: alone(tmp_path).__enter__())
        second.start()
        second.join()
        assert second.exitcode == 0
    finally:
        worker.kill()
        worker.join()


def test_alone_takes_no_lock_that_was_removed_meanwhile(
    tmp_path: Path, elsewhere: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened, its owner removes it and ends, a third process makes a new one: that one counts."""
    real, path = fcntl.lockf, tmp_path / ".lock"

    def lockf(*args: object) -> None:
        monkeypatch.setattr(fcntl, "lockf", real)
        path.unlink()
        elsewhere(lambda: alone(tmp_path))
        real(*args)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(Busy), alone(tmp_path):
        pass


def test_alone_goes_on_without_locks_where_the_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_alone_removes_the_folders_that_it_made_and_nothing_was_written_to(tmp_path: Path) -> None:
    with alone(tmp_path / "a" / "b" / "c"):
        write_text(tmp_path / "a" / "kept", "")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "kept"]


def test_alone_is_one_line_where_there_can_be_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/x: cannot be made a folder"), alone(tmp_path / "file" / "x"):
        pass


def test_asked_for_replaces_nothing_unless_told(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "a.safetensors"
    write_text(second, "old")
    for _ in range(2):
        with (
            pytest.raises(InputError, match=r"a.safetensors: is there already: .*--overwrite"),
            asked_for(first, second, overwrite=False),
        ):
            pass
        assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"a.safetensors": "old"}
    with asked_for(first, second, overwrite=True):
        write_text(second, "new")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"a.safetensors": "new"}


def test_asked_for_is_one_process_at_a_time(tmp_path: Path, elsewhere: Callable) -> None:
    elsewhere(lambda: asked_for(tmp_path / "a.npz", overwrite=False))
    with pytest.raises(Busy), asked_for(tmp_path / "a.npz", overwrite=True):
        pass
    with asked_for(tmp_path / "b.npz", overwrite=False):
        pass


def test_asked_for_replaces_what_a_killed_process_left(tmp_path: Path, elsewhere: Callable) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "a.safetensors"
    killed = elsewhere(lambda: asked_for(first, second, overwrite=False))
    write_text(second, "its")
    (tmp_path / ".a.yaml.1.part").write_text("half")
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    with asked_for(first, second, overwrite=False):
        assert not (tmp_path / ".a.yaml.1.part").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_asked_for_keeps_what_was_there_before_a_process_that_only_looked(
    tmp_path: Path, elsewhere: Callable
) -> None:
    write_text(tmp_path / "a.yaml", "old")
    killed = elsewhere(lambda: alone(tmp_path, ".a.yaml.lock"))  # before it had looked
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    with pytest.raises(InputError, match="is there already"), asked_for(tmp_path / "a.yaml", overwrite=False):
        pass


def test_parts_of_a_file_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in (".a.npz.1.part", ".a.npz.2.part", ".b.a.npz.1.part", "c.part", ".a.npz"):
        (tmp_path / name).write_text("")
    remove_parts(tmp_path, "a.npz")
    assert {path.name for path in tmp_path.iterdir()} == {".b.a.npz.1.part", "c.part", ".a.npz"}
    remove_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"c.part", ".a.npz"}


def test_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([1, 2]), "half": torch.ones(3).half(),
        "none": torch.ones(0),
    }  # fmt: skip
    metadata = {f"key {i} \u00e4 \x01 \u2028": f"value\n{i}" for i in range(9)}
    written = set()
    for turn in range(8):
        path = tmp_path / f"{turn}.safetensors"
        order = sorted(metadata, reverse=turn % 2 == 0)
        write_tensors(path, tensors, {key: metadata[key] for key in order})
        written.add(path.read_bytes())
    assert len(written) == 1
    with safetensors.safe_open(str(path), "pt") as file:  # safetensors' own reader takes it
        assert file.metadata() == metadata
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor)
            assert file.get_tensor(name).dtype == tensor.dtype
    found, about = read_tensors(path, "numbers")
    assert about == metadata
    assert torch.equal(found["b"], tensors["b"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"version https://git-lfs.github.com/spec/v1\nsize 12345\n", "is a Git LFS pointer: git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page: download"),
        (b"\n<HTML><body>Sign in", "is a web page: download"),
        (b"", "not a file of codebooks"),
        (b"\xff" * 100, "not a file of codebooks"),
        ((2**40).to_bytes(8, "little") + b"{}" * 100, "not a file of codebooks"),
    ],
)  # fmt: skip
def test_what_is_no_safetensors_file_is_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "codebook.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as refusal:
        read_tensors(path, "codebooks")
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(InputError, match=problem if "is a" in problem else "damaged or truncated"):
        torch_files.read(path)


@pytest.mark.parametrize("moment", ["while safetensors writes", "after it"])
def test_what_a_kill_leaves_of_tensors_is_removed_by_the_next(tmp_path: Path, moment: str) -> None:
    """safetensors 0.8 writes to a name of its own, which `remove_parts` did not know."""
    ends = (
        "open(Path(path).parent / '.tmpXYZ', 'wb').close(); os._exit(9)"
        if "while" in moment
        else "real(x, path); os._exit(9)"
    )
    code = f"""
import os
from pathlib import Path
import safetensors.torch, torch
from s3prl_vqpool.files import whole, write_tensors
real = safetensors.torch.save_file
def save_file(x, path):
    {ends}
safetensors.torch.save_file = save_file
write_tensors({str(tmp_path / "a.safetensors")!r}, {{"a": torch.ones(3)}})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    remove_parts(tmp_path, "b.safetensors")
    assert len(list(tmp_path.iterdir())) == 1
    remove_parts(tmp_path, "a.safetensors")
    assert list(tmp_path.iterdir()) == []
