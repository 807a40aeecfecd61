"""Weights that do not look at codes (AP, S3PRL's mean), and the standard deviation beside the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s3prl_vqpool.pooling.batch import Batch, check_frames
from s3prl_vqpool.pooling.registry import register_moments, register_name, register_weights
from s3prl_vqpool.pooling.weighted import check_weights, pool, uniform

_PAPER = "arXiv 2304.03940, Table 1"
_AT_ONCE = 2**18
"""Numbers of frames that a thread works on at once: 1 MiB, which stays in a processor's cache."""


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
    check_weights(frames, w)
    wide = frames.to(torch.promote_types(frames.dtype, torch.float32))
    w = w.detach().to(wide.dtype)
    average, squares = _Moments.apply(wide, w)
    if not squares.detach().sum().isfinite():  # as in `pool`: a NaN in padding is rare and shows here
        average, squares = _Moments.apply(wide.masked_fill((w == 0).unsqueeze(2), 0), w)
    variance = squares * _correction(w)
    deviation = torch.where(variance > 0, variance, 1).sqrt().masked_fill(variance == 0, 0)
    return torch.cat([average, deviation + 1e-5], dim=1).to(frames.dtype)


def _correction(w: Tensor) -> Tensor:
    """``1 / (1 - sum_t w_t^2)`` [B, 1], and 0 where one frame has all the weight."""
    wide = w.double()
    total = wide.sum(dim=1, keepdim=True)
    others = (wide * (total - wide)).sum(dim=1, keepdim=True)  # 1 - sum w^2, without cancellation
    return torch.where(others > 1e-30, 1 / others, 0).to(w.dtype)


class _Moments(torch.autograd.Function):
    """``m = sum_t w_t h_t`` and ``sum_t w_t (h_t - m)^2``, both [B, D], of frames [B, T, D] and weights [B, T].

    The gradient is that by the frames.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        average, squares = _by_blocks(frames, w)
        ctx.save_for_backward(frames, w, average)
        return average.squeeze(1), squares.squeeze(1)

    @staticmethod
    def backward(ctx: Any, by_mean: Tensor, by_squares: Tensor) -> tuple[Tensor, None]:
        frames, w, average = ctx.saved_tensors
        add, factor, w = by_mean.unsqueeze(1), 2 * by_squares.unsqueeze(1), w.unsqueeze(2)
        if torch.is_grad_enabled():  # a second derivative is asked for
            return w * (add + factor * (frames - (w * frames).sum(dim=1, keepdim=True))), None
        gradient, size = torch.empty_like(frames), _utterances(frames)
        for h, out, m, a, f, share in zip(
            *(x.split(size) for x in (frames, gradient, average, add, factor, w))
        ):
            torch.addcmul(a, torch.sub(h, m, out=out), f, out=out).mul_(share)
        return gradient, None


def _by_blocks(frames: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What `_Moments` gives, [B, 1, D] each. Utterances are read once: a block is in the cache for both moments."""
    size, w = _utterances(frames), w.unsqueeze(1)
    room = torch.empty_like(frames[:size])
    average = frames.new_empty(frames.size(0), 1, frames.size(2))
    squares = torch.empty_like(average)
    for h, share, m, s in zip(*(x.split(size) for x in (frames, w, average, squares))):
        torch.bmm(share, h, out=m)
        offset = torch.ops.aten.mse_loss.out(h, m, 0, out=room[: len(h)])  # (h - m)^2 in one operation
        torch.bmm(share, offset, out=s)
    return average, squares


def _utterances(frames: Tensor) -> int:
    """How many utterances are worked on at once; all of them elsewhere than on a CPU."""
    count, length, dim = frames.shape
    if frames.device.type != "cpu":
        return count
    return max(1, _AT_ONCE * torch.get_num_threads() // (length * dim))


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
