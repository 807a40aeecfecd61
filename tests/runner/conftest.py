"""Fixtures for the tests of mistakes: `refused` runs the script and gives its one line, `er` options for a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mistakes import DATARC, SHORT


@pytest.fixture
def refused(run: Any, tmp_path: Path) -> Callable[..., str]:
    """`refused(*argv)`: the one line that the run ends with; no folder of an experiment is left."""

    def refused(*argv: object, env: dict[str, str] | None = None) -> str:
        error = run(*argv, env=env).error
        assert list((tmp_path / "cwd").iterdir()) == []
        return error

    return refused


@pytest.fixture
def er(synthetic: dict) -> Callable[..., list[str]]:
    """`er(entry, ...)`: `-o` for the synthetic ER corpus, further entries last."""

    def er(*entries: str, **datarc: object) -> list[str]:
        each = {"num_workers": 0, "pre_load": False, "train_batch_size": 16, **synthetic["er"], **datarc}
        return [
            "-o",
            ",,".join([SHORT, *(f"{DATARC}.{key}={value}" for key, value in each.items()), *entries]),
        ]

    return er
