"""Stores of the small corpora, and configs for heads on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3prl_vqpool.runner import plugin

sys.path[:0] = [str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def ic(extracted: Any) -> Any:
    """`ic(kind)`: that of Fluent Speech Commands."""
    return lambda kind: extracted(kind, "ic")


@pytest.fixture
def config(synthetic: dict, tmp_path: Path) -> Callable[..., Path]:
    """`config(total_steps=4, optimizer={...}, ...)`: file with a config for the small corpus."""

    def config(optimizer: dict | None = None, scheduler: dict | None = None, **runner: Any) -> Path:
        values = yaml.safe_load(plugin.default_config("vqpool_ic").read_text())
        steps = {"log_step": 10, "eval_step": 20, "save_step": 20}
        values["runner"].update({**steps, **runner})
        values["optimizer"].update(optimizer or {})
        values |= {"scheduler": scheduler} if scheduler else {}
        section = values["downstream_expert"]
        section["datarc"].update(
            num_workers=0, train_batch_size=3, eval_batch_size=1, file_path=str(synthetic["ic"]["file_path"])
        )
        section["modelrc"]["projector_dim"] = 8
        path = tmp_path / "config.yaml"
        path.write_text(yaml.dump(values))
        return path

    return config
