"""k-means codebooks over the columns of a hidden state: quantisation, and their file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class KMeansCodebooks:
    """G codebooks, each over a range of columns of the same hidden state.

    Attributes:
        centroids: G float32 tensors [V_g, stop_g - start_g].
        columns: G pairs (start, stop).
        identity: what the codebooks were fitted on (upstream, audio, seed), as strings.
    """

    centroids: tuple[Tensor, ...]
    columns: tuple[tuple[int, int], ...]
    identity: dict[str, str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each codebook."""
        return tuple(len(centroids) for centroids in self.centroids)

    def quantize(self, frames: Tensor) -> Tensor:
        """Nearest centroid of each frame in each codebook: int64 [..., G] of frames [..., D].

        ``argmin |x - c|^2 = argmax (x . c - |c|^2 / 2)``: one matrix product per codebook, in float32 or
        better, also under autocast.
        """
        nearest = []
        with torch.autocast(frames.device.type, enabled=False):
            for centroids, (start, stop) in zip(self.centroids, self.columns):
                columns = frames[..., start:stop].to(torch.promote_types(frames.dtype, centroids.dtype))
                entries = centroids.to(columns)
                scores = columns @ entries.T - entries.square().sum(dim=1) / 2
                nearest.append(scores.argmax(dim=-1))
        return torch.stack(nearest, dim=-1)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        tensors = {f"codebook.{g}": centroids.contiguous() for g, centroids in enumerate(self.centroids)}
        columns = ",".join(f"{start}:{stop}" for start, stop in self.columns)
        temporary = f"{path}.part"
        safetensors.torch.save_file(tensors, temporary, {**self.identity, "columns": columns})
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> KMeansCodebooks:
        """Read a file that `save` wrote; InputError where it is something else."""
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                identity = dict(file.metadata() or {})
                columns = tuple(_columns(text) for text in identity.pop("columns").split(","))
                centroids = tuple(file.get_tensor(f"codebook.{g}") for g in range(len(columns)))
            for entries, (start, stop) in zip(centroids, columns):
                if entries.ndim != 2 or entries.size(1) != stop - start:
                    raise ValueError(f"a codebook of shape {list(entries.shape)} for columns {start}:{stop}")
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise InputError(f"{path}: not a file of k-means codebooks ({error}).") from error
        return cls(centroids, columns, identity)


def _columns(text: str) -> tuple[int, int]:
    start, separator, stop = text.partition(":")
    if not (separator and start.isdecimal() and stop.isdecimal()):
        raise ValueError(f"columns {text!r}, expected START:STOP")
    return int(start), int(stop)
