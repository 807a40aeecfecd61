"""The golden files beside the project (skips where they are absent)."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINTS = SHARED / "golden" / "checkpoints"
CASES = SHARED / "cases" / "checkpoints"

needed = pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason=f"no golden files: {CHECKPOINTS} is absent")


def expected(name: str) -> dict[str, Tensor]:
    """What fairseq or Hugging Face computed, by the names of the golden README."""
    return safetensors.torch.load_file(CHECKPOINTS / f"expected_{name}.safetensors")
