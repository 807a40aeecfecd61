"""Moments of the frames: AP (mean) and SP (mean and standard deviation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s3prl_vqpool.pooling.batch import Batch, check_frames, check_lengths, frame_mask
from s3prl_vqpool.pooling.registry import register
from s3prl_vqpool.pooling.weighted import pool, uniform

_PAPER = "arXiv 2304.03940, Table 1"


@register("mean", family="moments", kind="weights", source="s3prl/downstream/model.py", all_frames=True)
def mean(batch: Batch) -> Tensor:
    """S3PRL's MeanPooling: AP over all frames that its Featurizer keeps, the rounded-up last one included."""
    return uniform(batch.mask)


@register("AP", family="moments", kind="weights", source=_PAPER)
def average(batch: Batch) -> Tensor:
    """``1 / T``: the mean over real frames."""
    return uniform(batch.mask)


@register("SP", family="moments", kind="statistics", source=_PAPER, output_multiple=2)
class StatisticsPooling(nn.Module):
    """Mean and standard deviation (unbiased, + 1e-5) over real frames, concatenated: [B, 2 D].

    One frame has the standard deviation 0 + 1e-5. Source: arXiv 2304.03940, Table 1; the published code
    adds random noise to the mean, which is left out here.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.output_dim = 2 * dim

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, 2 D] of frames [B, T, D] with lengths [B]; codes are not looked at."""
        check_frames(frames, self.dim)
        lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
        return mean_and_deviation(frames, lengths)


def mean_and_deviation(frames: Tensor, lengths: Tensor) -> Tensor:
    """``cat(mean_t h, sqrt(sum_t (h - mean)^2 / (T - 1)) + 1e-5)`` [B, 2 D]; the root of 0 has gradient 0."""
    mask = frame_mask(lengths, frames.shape[1])
    mean = pool(frames, uniform(mask))
    offset = (frames - mean.unsqueeze(1)).masked_fill_(~mask.unsqueeze(2), 0)  # [B, T, D]
    freedom = (lengths - 1).clamp_min(1).unsqueeze(1).to(frames.dtype)
    deviation = torch.linalg.vector_norm(offset, dim=1) / freedom.sqrt()
    return torch.cat([mean, deviation + 1e-5], dim=1)
