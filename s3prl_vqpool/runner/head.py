"""Linear heads: SUPERB's (projector, pooling, linear) and the paper's (pooling, linear)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import pooling
from ..codes.handover import Codes
from ..pooling import Counts, LinearMap
from .config import Section


class Pooled(nn.Module):
    """Pooling and a linear layer to the classes. Used alone, it is the paper's head (arXiv 2304.03940, section 4).

    Parameter names are those of S3PRL's `UtteranceLevel` (s3prl/downstream/model.py), so that its checkpoints
    with mean pooling load here.

    Args:
        input_dim: D, size of a frame.
        output_dim: number of logits.
        name: one of `pooling.methods()`; case, `-` and `_` do not matter.
        options: options of the pooling, such as VQ-SIF's ``a``.
        projected_dim: size of a pooled frame at the linear layer, where a projector comes between.

    Raises:
        InputError: an unknown pooling, or an option that it does not take.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        name: str,
        options: Mapping[str, Any] | None = None,
        projected_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.method = pooling.method(name)
        given = Section("pooling_options", {} if options is None else options)  # type: ignore[arg-type]
        read = self.method.read(given, "pooling_options.")
        self.options = self.method.with_defaults(read)
        self.pooling = pooling.build(self.method.name, input_dim, **read)
        linear = nn.Linear(projected_dim or self.method.output_dim(input_dim), output_dim)
        self.post_net = nn.ModuleDict({"linear": linear})

    def pool(self, frames: Tensor, lengths: Tensor, codes: Codes | None) -> Tensor:
        """[B, E] of frames [B, T, D] with ``lengths`` [B].

        ``codes`` say which frames are real, also to methods that do not look at the indices. `mean` counts all
        frames in ``lengths``, as S3PRL does.
        """
        return pooled(self.method, self.pooling, frames, lengths, codes)

    def forward(self, frames: Tensor, lengths: Tensor, codes: Codes | None) -> Tensor:
        """Logits [B, C]."""
        return self.post_net["linear"](self.pool(frames, lengths, codes))


def pooled(
    method: pooling.Method, module: nn.Module, frames: Tensor, lengths: Tensor, codes: Codes | None
) -> Tensor:
    """[B, E] by the module of a pooling; arguments as for `Pooled.pool`."""
    if method.all_frames or codes is None:
        return module(frames, lengths)
    steps = min(frames.size(1), codes.indices.size(1))
    real = torch.minimum(codes.lengths.to(lengths.device), lengths)
    return module(frames[:, :steps], real, codes.indices[:, :steps].to(frames.device))


class SuperbHead(nn.Module):
    """SUPERB's linear head: projector D -> P, pooling, linear layer to the classes.

    Everything is linear but the standard deviation and the learned poolings. A map (standardise, whitening,
    softdecay) is fitted on vectors of the upstream's own dimension, so a pooling with a map comes before the
    projector; every other one comes after it, as in S3PRL.

    Args:
        upstream_dim: D.
        projector_dim: P, 256 in SUPERB.
        output_dim: number of logits.
        name: the pooling, as for `Pooled`.
        options: its options, as for `Pooled`.
    """

    def __init__(
        self,
        upstream_dim: int,
        projector_dim: int,
        output_dim: int,
        name: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        method = pooling.method(name)
        self.pools_first = method.map is not None
        size = method.output_dim(upstream_dim) if self.pools_first else upstream_dim
        self.projector = nn.Linear(size, projector_dim)
        if self.pools_first:
            self.model = Pooled(upstream_dim, output_dim, name, options, projector_dim)
        else:
            self.model = Pooled(projector_dim, output_dim, name, options)

    def logits(self, frames: Tensor, lengths: Tensor, codes: Codes | None) -> Tensor:
        """[B, C] of hidden states [B, T, D] with ``lengths`` [B] and the batch's codes."""
        if self.pools_first:
            return self.model.post_net["linear"](self.projector(self.model.pool(frames, lengths, codes)))
        return self.model(self.projector(frames), lengths, codes)

    @property
    def lacks_statistics(self) -> bool:
        """Whether the pooling needs training statistics and has none yet."""
        return self.model.method.needs_statistics and not self.model.pooling.has_statistics

    def set_statistics(self, *statistics: Counts | LinearMap) -> None:
        """Give the pooling its training statistics; they are buffers, so every checkpoint carries them."""
        self.model.pooling.set_statistics(*statistics)  # type: ignore[operator]
