"""Weights that do not look at codes (AP, S3PRL's mean), and the standard deviation beside the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .batch import Batch
from .registry import register_moments, register_weights
from .rows import AT_ONCE
from .weighted import check_weights, uniform

_PAPER = "arXiv 2304.03940, Table 1"


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
        add, factor, share = by_mean.unsqueeze(1), 2 * by_squares.unsqueeze(1), w.unsqueeze(2)
        if torch.is_grad_enabled():  # a second derivative is asked for
            return share * (add + factor * (frames - (share * frames).sum(dim=1, keepdim=True))), None
        gradient = torch.empty_like(frames)
        size, ends = _blocks(frames, w)
        parts = (each.split(size) for each in (frames, gradient, average, add, factor, share))
        for h, out, mean, a, f, own, end in zip(*parts, ends):
            out[:, end:] = 0
            out = torch.sub(h[:, :end], mean, out=out[:, :end])
            torch.addcmul(a, out, f, out=out).mul_(own[:, :end])
        return gradient, None


def _by_blocks(frames: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What `_Moments` gives, [B, 1, D] each. Utterances are read once: a block is in the cache for both moments."""
    average = frames.new_empty(frames.size(0), 1, frames.size(2))
    squares, (size, ends) = torch.empty_like(average), _blocks(frames, w)
    room = torch.empty_like(frames[:size, : max(ends)]).flatten()
    parts = (each.split(size) for each in (frames, w.unsqueeze(1), average, squares))
    for h, share, mean, out, end, alike in zip(*parts, ends, _alike(w, size, ends)):
        h, share = h[:, :end], share[:, :, :end]
        torch.bmm(share, h, out=mean)
        if alike:
            out.copy_(torch.batch_norm_update_stats(h[0], None, None, 0)[1])  # in one operation
            continue
        offset = room[: h.numel()].view(h.shape)
        torch.ops.aten.mse_loss.out(h, mean, 0, out=offset)  # (h - mean)^2 in one operation
        torch.bmm(share, offset, out=out)
    return average, squares


def _blocks(frames: Tensor, w: Tensor) -> tuple[int, list[int]]:
    """How many utterances are worked on at once, and for each block the frames up to the last that has a weight.

    Elsewhere than on a CPU all are worked on at once.
    """
    count, length, dim = frames.shape
    if frames.device.type != "cpu":
        return count, [length]
    size = max(1, AT_ONCE * torch.get_num_threads() // (length * dim))
    ends = ((w > 0) * torch.arange(1, length + 1)).amax(dim=1).clamp_min(1).tolist()
    return size, [max(ends[b : b + size]) for b in range(0, count, size)]


def _alike(w: Tensor, size: int, ends: list[int]) -> list[bool]:
    """Whether a block is one utterance whose frames, up to the last that has a weight, have equal weights."""
    if size > 1 or w.device.type != "cpu":
        return [False] * len(ends)
    return [each == end for each, end in zip((w == w[:, :1]).sum(dim=1).tolist(), ends)]
