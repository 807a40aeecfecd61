"""Vectors of the beginnings of an utterance: one after every so many frames, as Kaldi's online iVectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import pooling
from ..pooling.point import moments
from .encode import Encoder, weights_of

_AT_ONCE = 1 << 24
"""Numbers of frames that are pooled at once; some poolings copy them."""


class PrefixEncoder(Encoder):
    """An `Encoder` whose ``vectors.NAME`` are those of the beginnings, [rows, layers, E]; see `pooled`.

    Args:
        like: has the upstream, poolings and so on.
        every: frames from one beginning to the next.
    """

    def __init__(self, like: Encoder, every: int) -> None:
        super().__init__(like.upstream, like.poolings, like.frames, like.dtype, like.precision)
        self.every = every

    def _vectors(
        self,
        name: str,
        options: Mapping[str, Any],
        states: Sequence[Tensor],
        indices: Tensor,
        lengths: Tensor,
        samples: Sequence[int],
        rate: int,
    ) -> Sequence[Tensor]:
        vectors = []
        for k, length in enumerate(lengths.tolist()):
            layers = [layer[k] for layer in states]
            one = pooled(name, options, layers, indices[k, :length], self.every, samples[k], rate)
            vectors.append(one.to(self.dtype).cpu())
        return vectors


def ends(frames: int, every: int) -> list[int]:
    """Frames in each beginning: ``every``, twice as many, and so on; all frames in the last one.

    Examples:
        >>> ends(7, 3)
        [3, 6, 7]
    """
    return [min(end, frames) for end in range(every, frames + every, every)]


def pooled(
    name: str,
    options: Mapping[str, Any],
    layers: Sequence[Tensor],
    codes: Tensor,
    every: int,
    samples: int,
    rate: int,
) -> Tensor:
    """Vectors [rows, layers, E] of the beginnings of one utterance.

    Row k is what the pooling gives for the first ``ends(T, every)[k]`` frames and their codes alone, so the weights
    are of these codes too. The last row is the vector of the utterance.

    Args:
        name: of a pooling without a map.
        options: of its weights.
        layers: frames [T, D] of each; there may be more, which are padding.
        codes: int64 [T, G].
        samples: of the utterance.
        rate: samples in a frame.
    """
    method, wanted = pooling.method(name), ends(len(codes), every)
    at_once = max(1, _AT_ONCE // layers[0].numel())
    vectors = []
    for k in range(0, len(wanted), at_once):
        lengths = torch.tensor(wanted[k : k + at_once], device=codes.device)
        shape = len(lengths), int(lengths[-1]), -1
        indices = codes[: shape[1]].expand(shape)
        weights = weights_of(name, options, indices, lengths, [samples] * len(lengths), rate)
        frames = (layer[: shape[1]].float().expand(shape) for layer in layers)
        vectors.append(torch.stack([moments(method, each, weights) for each in frames], dim=1))
    return torch.cat(vectors)
