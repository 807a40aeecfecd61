"""Fixtures: `submit(...)` runs the verb, `experiment(task, ...)` makes a folder for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

# isort: split
import pytest
from experiment_folders import Experiment, Refused

from s3prl_vqpool import cli


@pytest.fixture
def submit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """`submit(*argv)`: the lines that `vqpool submit` into `out/` prints; `Refused` where it ends with 2."""

    def submit(*argv: object) -> list[str]:
        code = cli.main(["submit", *map(str, argv), "--output", str(tmp_path / "out")])
        printed = capsys.readouterr()
        if code:
            assert (code, printed.out) == (2, "")
            (line,) = printed.err.splitlines()
            raise Refused(line.removeprefix("error: "))
        assert printed.err == ""
        return printed.out.splitlines()

    return submit


@pytest.fixture
def experiment(tmp_path: Path, synthetic: dict) -> Callable[..., Experiment]:
    def experiment(task: str, name: str = "exp", datarc: dict | None = None, **rest: Any) -> Experiment:
        rest = {"fold": "fold1", **rest} if task == "er" else rest
        return Experiment(tmp_path / name, task, {**synthetic[task], **(datarc or {})}, **rest)

    return experiment
