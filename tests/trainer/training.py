"""`vqpool train` on a store of Fluent Speech Commands, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s3prl_vqpool import checkpoints, cli

Config = Callable[..., Path]
SECTION = "config.downstream_expert.datarc"


def train(store: Path, config: Path, folder: Path, *options: str) -> int:
    command = ["train", "-d", "vqpool_ic", "--store", str(store), "-c", str(config), "-p", str(folder)]
    return cli.main([*command, *options])


def state_of(folder: Path, name: str) -> dict:
    return checkpoints.load(folder / name, required=("Optimizer", "Step", "Epoch", "Args", "Config"))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err
