"""What fairseq computes with the golden checkpoints, and how a test compares with it."""

from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import torch

from s3prl_vqpool import cli

MODELS = {
    "args namespace": "fairseq_wav2vec2_base",
    "cfg dict": "fairseq_wav2vec2_large",
    "cfg of OmegaConf": "fairseq_xlsr",
}


def convert(path: Path, out: Path) -> Path:
    assert cli.main(["convert", str(path), "--output", str(out)]) == 0
    return out


def assert_equals_fairseq(upstream: Any, name: str, expected: dict[str, torch.Tensor]) -> None:
    for i in range(3):
        with torch.no_grad():
            found = upstream([expected[f"wav.{i}"]])
        assert torch.equal(found["codes"][0], expected[f"{name}.{i}.codes"])
        layers = [expected[f"{name}.{i}.hidden.{layer}"] for layer in range(4)]
        assert len(found["hidden_states"]) == len(layers)
        for state, layer in zip(found["hidden_states"], layers):
            torch.testing.assert_close(state[0], layer, rtol=1e-5, atol=1e-5)
