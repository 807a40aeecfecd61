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

        def half(writer: Writer, name: str, data: bytes) -> None:
            calls.append(name)
            if len(calls) == number:
                (writer.folder / f".{name}.rank{writer.rank}.tmp").write_bytes(data[: len(data) // 2])
                stop()
            write(writer, name, data)

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


def test_ranks_give_the_same_bytes(extract: Any, forked: Any, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"

    def rank(number: int) -> Callable[[], int]:
        def run() -> int:
            os.environ.update(RANK=str(number), WORLD_SIZE="3")
            return extract("base", folder, *OPTIONS)

        return run

    processes = [
        forked(rank(0)),
        forked(killed_in_write(2, rank(1))),
        forked(rank(2)),
    ]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL, 0]
    assert not (folder / "done.json").exists()
    again = forked(rank(1))
    again.join(60)
    assert again.exitcode == 0
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
