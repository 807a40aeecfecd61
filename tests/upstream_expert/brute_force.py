"""Nearest centroids by brute force, and lengths of waveforms to try."""

from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import safetensors
import safetensors.torch
import torch

LENGTHS = (7600, 16000, 560, 12345)


def brute_force(codebooks: Path, states: list[torch.Tensor]) -> torch.Tensor:
    """int64 [T, G] for the hidden states [T, D] of all layers, by every distance in float64."""
    with safetensors.safe_open(str(codebooks), "pt") as file:
        meta = file.metadata()
        layers, columns = meta["layers"].split(","), meta["columns"].split(",")
        nearest = []
        for g, (layer, part) in enumerate(zip(layers, columns, strict=True)):
            start, stop = map(int, part.split(":"))
            frames = states[int(layer)][:, start:stop].double()
            squares = (frames[:, None] - file.get_tensor(f"codebook.{g}").double()).square().sum(dim=-1)
            nearest.append(squares.argmin(dim=-1))
    return torch.stack(nearest, dim=-1)
