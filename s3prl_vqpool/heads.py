"""Linear heads: SUPERB's (projector, pooling, linear) and the paper's (pooling, linear)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import pooling
from .codes import Codes

#: S3PRL's MeanPooling: over all frames that its Featurizer keeps, the rounded-up last one included.
MEAN = "mean"


def poolings() -> tuple[str, ...]:
    """What `pooling:` of a head may be: `mean`, and every method of the registry."""
    return (MEAN, *pooling.methods())


class PooledLinear(nn.Module):
    """Pooling, then one linear layer to the classes; the paper's supervised head (arXiv 2304.03940, section 4).

    Parameter names are those of S3PRL's `UtteranceLevel` (s3prl/downstream/model.py), so that its checkpoints
    with mean pooling load here.

    Args:
        input_dim: D, size of a frame.
        output_dim: number of logits.
        method: one of `poolings()`.
    """

    def __init__(self, input_dim: int, output_dim: int, method: str) -> None:
        super().__init__()
        self.over_all_frames = method == MEAN
        self.pooling = pooling.build("AP" if self.over_all_frames else method, input_dim)
        self.post_net = nn.ModuleDict({"linear": nn.Linear(self.pooling.output_dim, output_dim)})

    def forward(self, frames: Tensor, lengths: Tensor, codes: Codes | None) -> Tensor:
        """Logits [B, C] of frames [B, T, D] with ``lengths`` [B]; ``codes`` also say which frames are real."""
        if self.over_all_frames or codes is None:
            return self.post_net["linear"](self.pooling(frames, lengths))
        real = codes.lengths.to(lengths.device)
        steps = min(frames.size(1), codes.indices.size(1))
        indices = codes.indices[:, :steps].to(lengths.device)
        pooled = self.pooling(frames[:, :steps], torch.minimum(real, lengths), indices)
        return self.post_net["linear"](pooled)
