"""`vqpool embed` by several processes: the bytes of one process, also after kills, and never two commands mixed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from stores import tree

from s3prl_vqpool import Embedder, cli
from s3prl_vqpool.store import embed, layout
from s3prl_vqpool.store.group import Group
from s3prl_vqpool.store.threads import torch_threads

Processes = Sequence[Any]
Launch = Callable[..., Processes]


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine files of noise, in seven parts; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "SHARD_SECONDS", 1)
    generator = np.random.default_rng(0)
    (tmp_path / "speech").mkdir()
    for number in range(9):
        wav = 0.1 * generator.standard_normal(4000 + 1500 * number)
        soundfile.write(f"speech/{number}.wav", wav, 16000)
    return tmp_path


@pytest.fixture
def argv(checkpoints: dict[str, Path]) -> list[str]:
    given = ["embed", "speech", "-u", "wav2vec2_vq_local", "-k", str(checkpoints["base"]), "--device", "cpu"]
    return [*given, "--output", "v.ark"]


@pytest.fixture
def launch(forked: Any) -> Launch:
    """`launch(world, work)`: processes with torchrun's variables that run ``work(rank)``."""

    def launch(world: int, work: Callable[[int], int]) -> Processes:
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]

        def process(rank: int) -> Callable[[], int]:
            def run() -> int:
                os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), TORCHELASTIC_RUN_ID="test")
                os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
                return work(rank)

            return run

        return [forked(process(rank)) for rank in range(world)]

    return launch


def as_torchrun(processes: Processes) -> list[int]:
    """Wait for all; where one fails, end the others, as torchrun does. Their exit codes."""
    end = time.monotonic() + 60
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def outputs(folder: Path) -> dict[str, bytes]:
    """The files of a run; nothing else is left of it."""
    assert sorted(path.name for path in folder.iterdir()) == ["speech", "v.ark", "v.scp"]
    return {name: (folder / name).read_bytes() for name in ("v.ark", "v.scp")}


def remove(folder: Path) -> None:
    for name in ("v.ark", "v.scp"):
        (folder / name).unlink()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_parts_and_give_the_bytes_of_one(
    world: int, speech: Path, argv: list[str], launch: Launch
) -> None:
    assert cli.main(argv) == 0
    expected = outputs(speech)
    remove(speech)
    batch = Embedder.batch

    def work(rank: int) -> int:
        def told(self: Embedder, names: Any, *more: Any) -> Any:
            with open(speech / "speech" / "told", "a") as file:
                file.writelines(f"{rank} {name}\n" for name in names)
            time.sleep(0.2)  # so that every process gets a part
            return batch(self, names, *more)

        Embedder.batch = told  # type: ignore[method-assign]
        return cli.main(argv)

    assert as_torchrun(launch(world, work)) == [0] * world
    told = [line.split() for line in (speech / "speech" / "told").read_text().splitlines()]
    assert sorted(name for _, name in told) == [f"speech/{number}.wav" for number in range(9)]
    assert {rank for rank, _ in told} == {str(rank) for rank in range(world)}
    assert outputs(speech) == expected


@pytest.mark.parametrize(("world", "victim"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_a_killed_process_costs_its_part_alone(
    world: int, victim: int, speech: Path, argv: list[str], launch: Launch
) -> None:
    assert cli.main(argv) == 0
    expected = outputs(speech)
    remove(speech)
    write = embed.files.write_tensors

    def work(rank: int) -> int:
        calls = []

        def killed(path: Path, tensors: Any) -> None:
            calls.append(path)
            if rank == victim and len(calls) == 2:
                (path.parent / f".{path.name}.{os.getpid()}.part").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, tensors)
            time.sleep(0.1)

        embed.files.write_tensors = killed
        return cli.main(argv)

    codes = as_torchrun(launch(world, work))
    assert codes[victim] == -signal.SIGKILL
    assert not Path("v.ark").exists()
    parts = {path: path.stat().st_mtime_ns for path in Path("v.ark.parts").glob("part-*")}
    assert parts

    def unchanged(rank: int) -> int:
        def new(path: Path, tensors: Any) -> None:
            assert path not in {Path(each) for each in parts}
            write(path, tensors)

        embed.files.write_tensors = new
        return cli.main(argv)

    assert as_torchrun(launch(3 - victim, unchanged)) == [0] * (3 - victim)
    assert outputs(speech) == expected


def test_a_process_of_an_earlier_command_keeps_a_new_one_out(
    speech: Path, argv: list[str], launch: Launch, forked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = Embedder.batch

    def work(rank: int) -> int:
        def slow(self: Embedder, names: Any, *more: Any) -> Any:
            time.sleep(60 if rank else 0.01)
            return batch(self, names, *more)

        Embedder.batch = slow  # type: ignore[method-assign]
        return cli.main(argv)

    leader, helper = launch(2, work)
    lock = Path("v.ark.parts/.lock.rank1")
    while helper.is_alive() and not (lock.exists() and lock.read_text()):
        time.sleep(0.01)
    assert cli.main(argv) == 2  # the first one leads still
    assert f"process {leader.pid} on {socket.gethostname()} is writing there" in capsys.readouterr().err
    leader.kill()
    leader.join()
    (speech / "v.ark.parts" / ".lock").unlink()  # the killed process left it, and the next one removes it
    before = tree(Path("v.ark.parts"))
    assert cli.main([*argv, "--pooling", "AP"]) == 2  # an orphan
    assert f"process {helper.pid} on {socket.gethostname()} is writing there" in capsys.readouterr().err
    assert tree(Path("v.ark.parts")) == before
    helper.kill()
    helper.join()
    assert cli.main(argv) == 0
    outputs(speech)


def test_parts_without_a_manifest_are_made_again(speech: Path, argv: list[str]) -> None:
    assert cli.main(argv) == 0
    expected = outputs(speech)
    remove(speech)
    Path("v.ark.parts").mkdir()
    embed.files.write_tensors(
        Path("v.ark.parts/part-00000.safetensors"), {"vectors": embed.torch.zeros(1, 32)}
    )
    assert cli.main(argv) == 0
    assert outputs(speech) == expected


def test_a_mistake_ends_all_processes_and_leaves_nothing(
    speech: Path, argv: list[str], launch: Launch
) -> None:
    codes = as_torchrun(launch(2, lambda rank: cli.main([*argv, "--layer", "9"])))
    assert 2 in codes
    assert 0 not in codes
    assert [path.name for path in speech.iterdir()] == ["speech"]


def test_each_number_is_taken_once(launch: Launch, tmp_path: Path) -> None:
    def work(rank: int) -> int:
        group = Group.of_torchrun()
        if rank:
            group.wait_for_begin()
        else:
            group.begin()
        (tmp_path / str(rank)).write_text(" ".join(map(str, group.take(100))))
        group.leave() if rank else group.wait_for_others()
        return 0

    assert as_torchrun(launch(3, work)) == [0, 0, 0]
    taken = [[int(word) for word in (tmp_path / str(rank)).read_text().split()] for rank in range(3)]
    assert sorted(number for each in taken for number in each) == list(range(100))
    assert all(each == sorted(each) for each in taken)


def test_several_processes_need_torchrun(
    speech: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith(
        "error: WORLD_SIZE is 2, but torchrun did not start this process"
    )


def test_torchrun_gives_the_bytes_of_one_process(
    speech: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_SECONDS", 600)  # as the processes that it starts have it
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*run, "-m", "s3prl_vqpool", *argv], check=True, env=environment, capture_output=True)
    several = outputs(speech)
    remove(speech)
    with torch_threads(1):
        assert cli.main(argv) == 0
    assert outputs(speech) == several
