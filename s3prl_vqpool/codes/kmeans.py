"""k-means codebooks over columns of hidden states: quantisation, and their file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.weights import require_finite
from ..errors import InputError
from ..files import read_tensors, write_tensors


@dataclass(frozen=True)
class KMeansCodebooks:
    """G codebooks, each over a range of columns of a hidden state.

    Attributes:
        centroids: G float32 tensors [V_g, stop_g - start_g].
        columns: G pairs (start, stop).
        identity: what the codebooks were fitted on (upstream, audio, seed), as strings.
        layers: G indices into an upstream's hidden states; empty means 0 for all.
    """

    centroids: tuple[Tensor, ...]
    columns: tuple[tuple[int, int], ...]
    identity: dict[str, str]
    layers: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each codebook."""
        return tuple(len(centroids) for centroids in self.centroids)

    def to(self, device: torch.device) -> KMeansCodebooks:
        """These codebooks with their centroids on ``device``."""
        return replace(self, centroids=tuple(centroids.to(device) for centroids in self.centroids))

    def quantize_states(self, states: Sequence[Tensor]) -> Tensor:
        """Codes int64 [B, T, G] of an upstream's hidden states, L tensors [B, T, D]; each codebook takes its layer.

        Raises:
            InputError: there are fewer layers or columns than the codebooks were fitted on.
        """
        parts = []
        for group, layer in enumerate(self.layers or (0,) * len(self.centroids)):
            if layer >= len(states) or self.columns[group][1] > states[layer].size(-1):
                have = f"{len(states)} layers of {states[0].size(-1)} columns"
                need = f"columns {self.columns[group][0]} to {self.columns[group][1]} of layer {layer}"
                raise InputError(
                    f"The codebooks need {need}, but the upstream gives {have}: they belong to another upstream."
                )
            parts.append(self._nearest(group, states[layer]))
        return torch.stack(parts, dim=-1)

    def quantize(self, frames: Tensor) -> Tensor:
        """Nearest centroid of each frame in each codebook: int64 [..., G] of frames [..., D].

        ``argmin |x - c|^2 = argmax (x . c - |c|^2 / 2)``: one matrix product per codebook, in float32 or
        better, also under autocast.
        """
        return torch.stack([self._nearest(group, frames) for group in range(len(self.centroids))], dim=-1)

    def _nearest(self, group: int, frames: Tensor) -> Tensor:
        centroids, (start, stop) = self.centroids[group], self.columns[group]
        with torch.autocast(frames.device.type, enabled=False):
            columns = frames[..., start:stop].to(torch.promote_types(frames.dtype, centroids.dtype))
            entries = centroids.to(columns)
            return (columns @ entries.T - entries.square().sum(dim=1) / 2).argmax(dim=-1)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        tensors = {f"codebook.{g}": centroids.contiguous() for g, centroids in enumerate(self.centroids)}
        columns = ",".join(f"{start}:{stop}" for start, stop in self.columns)
        layout = {"columns": columns, **({"layers": ",".join(map(str, self.layers))} if self.layers else {})}
        write_tensors(path, tensors, {**self.identity, **layout})

    @classmethod
    def load(cls, path: str | Path) -> KMeansCodebooks:
        """Read a file that `save` wrote; InputError where it is something else, or not finite."""
        tensors, identity = read_tensors(path, "k-means codebooks")
        try:
            columns = tuple(_columns(text) for text in identity.pop("columns").split(","))
            layers = tuple(int(text) for text in identity.pop("layers", "").split(",") if text)
            centroids = tuple(tensors[f"codebook.{g}"] for g in range(len(columns)))
            if layers and (len(layers) != len(columns) or min(layers) < 0):
                raise ValueError(f"layers {layers} for {len(columns)} codebooks")
            for entries, (start, stop) in zip(centroids, columns):
                if entries.ndim != 2 or not len(entries) or entries.size(1) != stop - start:
                    raise ValueError(f"a codebook of shape {list(entries.shape)} for columns {start}:{stop}")
                if not entries.is_floating_point():
                    raise ValueError(f"a codebook of {entries.dtype}")
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a file of k-means codebooks ({error}).") from error
        require_finite(tensors, str(path))
        return cls(centroids, columns, identity, layers)


def _columns(text: str) -> tuple[int, int]:
    start, separator, stop = text.partition(":")
    if not (separator and start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise ValueError(f"columns {text!r}, expected START:STOP")
    return int(start), int(stop)
