"""Kills, restarts, several ranks: always the same bytes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import tree

from s3prl_vqpool import files
from s3prl_vqpool.store import Store
from s3prl_vqpool.store.files import Writer

OPTIONS = ("--frames", "--poolings", "VQ-LP", "mean")


@pytest.fixture(scope="session")
def uninterrupted(extract: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "store"
    assert extract("base", folder, *OPTIONS) == 0
    return folder


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_write(
    number: int, work: Callable[[], int], stop: Callable[[], None] = killed
) -> Callable[[], int]:
    """``work``, stopped when the file of its write ``number`` is half written."""

    def run() -> int:
        write, calls = Writer.write, []

        def half(writer: Writer, name: str, *data: bytes) -> None:
            calls.append(name)
            if len(calls) == number:
                (writer.folder / f".{name}.rank{writer.rank}.tmp").write_bytes(data[-1][: len(data[-1]) // 2])
                stop()
            write(writer, name, *data)

        Writer.write = half  # type: ignore[method-assign]
        return work()

    return run


def test_corpus_makes_several_shards(uninterrupted: Path) -> None:
    assert Store.open(uninterrupted).manifest["shards"] >= 5


@pytest.mark.parametrize("number", [1, 2, 6, 7, 11, -2, -1], ids="write{}".format)
def test_kill_and_restart_give_the_same_bytes(
    number: int, extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    if number < 0:  # rows.safetensors, done.json
        number += 4 + 2 * Store.open(uninterrupted).manifest["shards"]
    first = forked(killed_in_write(number, lambda: extract("base", folder, *OPTIONS)))
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    assert any(name.endswith(".tmp") for name in tree(folder))
    whole = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    finished = {name: time for name, time in whole.items() if Path(name).with_suffix(".jsonl").name in whole}
    assert extract("base", folder, *OPTIONS) == 0
    assert tree(folder) == tree(uninterrupted)
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished


def test_kill_from_outside_and_restart_give_the_same_bytes(
    extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    running = forked(lambda: extract("base", folder, *OPTIONS))
    while running.is_alive() and not list(folder.glob("*.jsonl")):
        time.sleep(0.001)
    os.kill(running.pid, signal.SIGKILL)
    running.join(60)
    assert extract("base", folder, *OPTIONS) == 0
    assert tree(folder) == tree(uninterrupted)


def of_rank(number: int, extract: Any, folder: Path) -> Callable[[], int]:
    """Extraction by one of three ranks."""

    def run() -> int:
        os.environ.update(RANK=str(number), WORLD_SIZE="3")
        return extract("base", folder, *OPTIONS)

    return run


def test_ranks_give_the_same_bytes(extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    processes = [forked(of_rank(number, extract, folder)) for number in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert tree(folder) == tree(uninterrupted)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_ranks_do_the_work_of_one_that_was_killed(
    number: int, extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    first = forked(killed_in_write(number, of_rank(1, extract, folder)))
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    others = [forked(of_rank(number, extract, folder)) for number in (0, 2)]
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0]
    assert tree(folder) == tree(uninterrupted)


def test_a_shard_that_another_rank_works_on_is_left_to_it(
    extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    half = folder / ".shard-00001.safetensors.rank1.tmp"
    slow = forked(killed_in_write(2, of_rank(1, extract, folder), lambda: time.sleep(60)))
    while slow.is_alive() and not (half.exists() and half.stat().st_size):
        time.sleep(0.001)
    for _ in range(2):
        first = forked(of_rank(0, extract, folder))
        first.join(60)
        assert first.exitcode == 0
        assert not (folder / "done.json").exists()
    every = {f"shard-{number:05}.jsonl" for number in range(Store.open(uninterrupted).manifest["shards"])}
    assert {path.name for path in folder.glob("*.jsonl")} == every - {"shard-00001.jsonl"}
    os.kill(slow.pid, signal.SIGKILL)
    slow.join(60)
    again = forked(of_rank(2, extract, folder))
    again.join(60)
    assert tree(folder) == tree(uninterrupted)


def test_without_locks_each_rank_makes_its_own_shards_only(
    extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_lock", lambda _: None)
    folder = tmp_path / "store"
    for number in range(3):
        process = forked(of_rank(number, extract, folder))
        process.join(60)
        assert process.exitcode == 0
        found = {int(path.stem[-5:]) % 3 for path in folder.glob("*.jsonl")}
        assert found == set(range(number + 1))
    assert tree(folder) == tree(uninterrupted)


def test_second_process_of_a_rank_is_refused_while_the_first_lives(
    extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "store"
    half = folder / ".shard-00001.safetensors.rank0.tmp"
    first = forked(killed_in_write(4, lambda: extract("base", folder, *OPTIONS), lambda: time.sleep(60)))
    while first.is_alive() and not (half.exists() and half.stat().st_size):
        time.sleep(0.001)
    before = tree(folder)
    assert extract("base", folder, *OPTIONS) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: {folder}: process {first.pid} on {socket.gethostname()} is writing there: "
        "wait until it ends, or end it."
    )
    assert tree(folder) == before
    os.kill(first.pid, signal.SIGKILL)
    first.join(60)
    assert extract("base", folder, *OPTIONS) == 0
    assert tree(folder) == tree(uninterrupted)


def test_run_again_changes_nothing(
    extract: Any, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}
    monkeypatch.setattr(Writer, "write", lambda *_: pytest.fail("written again"))
    assert extract("base", uninterrupted, *OPTIONS) == 0
    assert {path.name: path.stat().st_mtime_ns for path in uninterrupted.iterdir()} == before
