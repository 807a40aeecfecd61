"""Weights that do not look at codes (AP, S3PRL's mean), and the standard deviation beside the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s3prl_vqpool.pooling.batch import Batch, check_frames
from s3prl_vqpool.pooling.registry import register_moments, register_name, register_weights
from s3prl_vqpool.pooling.weighted import pool, uniform

_PAPER = "arXiv 2304.03940, Table 1"
_AT_ONCE = 2**18
"""Numbers of frames that are squared at once: 1 MiB, which stays in a processor's cache."""


@register_weights(
    "mean", family="moments", source="s3prl/downstream/model.py", all_frames=True, alias="MeanPooling"
)
def mean(batch: Batch) -> Tensor:
    """S3PRL's MeanPooling: over all frames that its Featurizer keeps, the rounded-up last one included."""
    return uniform(batch.mask)


@register_weights("AP", family="moments", source=_PAPER)
def average(batch: Batch) -> Tensor:
    """``1 / T``: the mean over real frames."""
    return uniform(batch.mask)


@register_moments("std")
def mean_and_deviation(frames: Tensor, w: Tensor) -> Tensor:
    """Weighted mean and standard deviation, concatenated: [B, 2 D].

    With weights that sum to 1, ``m = sum_t w_t h_t`` and
    ``s = sqrt(sum_t w_t (h_t - m)^2 / (1 - sum_t w_t^2)) + 1e-5``: the unbiased estimate for reliability weights.
    Equal weights give the divisor T - 1. One frame, or one frame that holds all the weight, has s = 0 + 1e-5.
    The root of 0 has the gradient 0. No gradient flows to ``w``.

    Args:
        frames: [B, T, D], floating dtype. Half precision is computed in float32.
        w: [B, T], at least 0, sum 1 for each utterance; a frame of weight 0 does not count, whatever it holds.

    Raises:
        InputError: shapes that do not fit.
    """
    average = pool(frames, w)
    wide = frames.float() if frames.element_size() < 4 else frames
    w = w.detach().to(wide.dtype)
    squares = _SquaredDeviation.apply(wide, average.detach().to(wide.dtype), w)
    if not squares.detach().sum().isfinite():  # as in `pool`: a NaN in padding is rare and shows here
        wide = wide.masked_fill((w == 0).unsqueeze(2), 0)
        squares = _SquaredDeviation.apply(wide, average.detach().to(wide.dtype), w)
    variance = squares * _correction(w)
    deviation = torch.where(variance > 0, variance, 1).sqrt().masked_fill(variance == 0, 0)
    return torch.cat([average, (deviation + 1e-5).to(frames.dtype)], dim=1)


def _correction(w: Tensor) -> Tensor:
    """``1 / (1 - sum_t w_t^2)`` [B, 1], and 0 where one frame has all the weight."""
    wide = w.double()
    total = wide.sum(dim=1, keepdim=True)
    others = (wide * (total - wide)).sum(dim=1, keepdim=True)  # 1 - sum w^2, without cancellation
    return torch.where(others > 1e-30, 1 / others, 0).to(w.dtype)


class _SquaredDeviation(torch.autograd.Function):
    """``sum_t w_t (h_t - m)^2`` [B, D] of frames [B, T, D], means [B, D] and weights [B, T]; a pass in blocks.

    The gradient is that by the frames; by the mean it is 0, as the weighted deviations from it sum to 0.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor, m: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(frames, m, w)
        size = max(1, _AT_ONCE // frames[0].numel())
        room = torch.empty_like(frames[:size])
        found = []
        for h, centre, weight in zip(frames.split(size), m.split(size), w.split(size)):
            offset = torch.sub(h, centre.unsqueeze(1), out=room[: len(h)]).square_()
            found.append(torch.bmm(weight.unsqueeze(1), offset).squeeze(1))
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        frames, m, w = ctx.saved_tensors
        return (frames - m.unsqueeze(1)) * (2 * w.unsqueeze(2) * gradient.unsqueeze(1)), None, None


def published_mean_and_deviation(frames: Tensor, w: Tensor) -> Tensor:
    """SP's numbers: ``cat(mean_t h, sqrt(sum_t (h - mean)^2 / (T - 1)) + 1e-5)`` [B, 2 D], over frames with a weight.

    The same as `mean_and_deviation` but for rounding. The published code adds noise to the mean; this does not.
    """
    check_frames(frames)
    mask = w > 0
    average = pool(frames, w)
    offset = (frames - average.unsqueeze(1)).masked_fill_(~mask.unsqueeze(2), 0)  # [B, T, D]
    freedom = (mask.sum(dim=1) - 1).clamp_min(1).unsqueeze(1).to(frames.dtype)
    deviation = torch.linalg.vector_norm(offset, dim=1) / freedom.sqrt()
    return torch.cat([average, deviation + 1e-5], dim=1)


register_name(
    "SP",
    "AP+std",
    family="moments",
    source=_PAPER,
    doc="AP+std with the published arithmetic: unbiased standard deviation + 1e-5.",
    moments=published_mean_and_deviation,
)
