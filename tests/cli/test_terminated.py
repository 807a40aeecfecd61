"""SIGTERM in the middle of training, in real processes: where it stopped, exit code 143, and a sound continuation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s3prl_vqpool import checkpoints
from s3prl_vqpool.cli.main import main

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks")]

import kills  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "run_downstream.py"


def terminated(command: Sequence[str], folder: Path) -> str:
    """Send SIGTERM when ``folder`` has its first checkpoint; the last line on standard error."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 120
        while not list(folder.rglob("states-*.ckpt")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def step(path: Path) -> int:
    return int(path.stem.split("-")[1])


def test_run_downstream_says_where_it_stopped_and_continues(
    run: Any, options: Callable[..., list[str]], synthetic: dict, tmp_path: Path
) -> None:
    whole, stopped, total = tmp_path / "whole", tmp_path / "stopped", 120
    steps = {"total_steps": total, "save_step": 4, "eval_step": 1000, "max_keep": 100}
    given = options({**synthetic["ic"], "num_workers": 0, "train_batch_size": 4}, **steps)
    argv = ["-m", "train", "-u", "mfcc_vq", "-d", "vqpool_ic", *given]
    line = terminated([sys.executable, str(SCRIPT), *argv, "-p", str(stopped)], stopped)
    last = max(stopped.glob("states-*.ckpt"), key=step)
    assert step(last) < total
    assert line == f"terminated in run_downstream.py: the same command with -a continues from {last}"
    assert not list(stopped.glob(".*"))  # neither a lock nor half a file
    assert run(*argv, "-p", whole).rc == 0
    found, expected = (checkpoints.load(folder / last.name)["Downstream"] for folder in (stopped, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert run(*argv, "-p", stopped, "-a").rc == 0
    assert checkpoints.load(stopped / f"states-{total}.ckpt")["Step"] == total


def test_vqpool_train_says_where_it_stopped_and_ends_with_the_same_files(
    synthetic: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    extract, _, train, *_ = kills.commands(tmp_path, synthetic["ic"])
    argv = [word.replace("total_steps=60", "total_steps=600") for word in train.argv]
    argv[argv.index("--store") + 1] = str(tmp_path / "store")
    train = replace(train, argv=argv)
    assert main(list(extract.argv)) == 0
    assert main(list(train.argv)) == 0
    expected = kills.content(train.output)
    train.prepare()
    line = terminated([sys.executable, "-m", "s3prl_vqpool", *train.argv], train.output)
    assert line.startswith("terminated in vqpool train: ")
    assert kills.content(train.output) != expected
    assert main(list(train.argv)) == 0
    assert kills.content(train.output) == expected
    capsys.readouterr()
