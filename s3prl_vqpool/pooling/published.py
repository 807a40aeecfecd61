"""SP: the mean and the standard deviation with the published arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, mse_loss

from .registry import register_name
from .rows import AT_ONCE, usable
from .weighted import check_weights, pool


def published_mean_and_deviation(frames: Tensor, w: Tensor) -> Tensor:
    """``cat(mean_t h, sqrt(sum_t (h - mean)^2 / (T - 1)) + 1e-5)`` [B, 2 D] over real frames.

    The same as `mean_and_deviation` but for rounding. The published code adds noise to the mean; this does not.

    Args:
        frames: [B, T, D], floating dtype.
        w: [B, T], AP's weights: of the first frames of each utterance. No gradient flows to them.

    Raises:
        InputError: shapes that do not fit.
    """
    check_weights(frames, w)
    in_blocks = usable(frames) and frames.size(2) > 1  # of one channel, the norm adds in another order
    average, norm = _InBlocks.apply(frames, w) if in_blocks else _batched(frames, w)
    freedom = ((w > 0).sum(dim=1) - 1).clamp_min(1).unsqueeze(1).to(frames.dtype)
    return torch.cat([average, norm / freedom.sqrt() + 1e-5], dim=1)


def _batched(frames: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and norm of the distances from it, [B, D] each."""
    average = pool(frames, w)
    offset = (frames - average.unsqueeze(1)).masked_fill_((w <= 0).unsqueeze(2), 0)  # [B, T, D]
    return average, torch.linalg.vector_norm(offset, dim=1)


class _InBlocks(torch.autograd.Function):
    """`_batched`, to the bit, a few utterances at a time, which stay in the cache."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        average = pool(frames, w)
        squares = torch.empty_like(average)
        for some, lengths in _blocks(w, frames.size(2)):
            own = frames[some, : max(lengths)]
            square = mse_loss(own, average[some].unsqueeze(1).expand_as(own), reduction="none")
            squares[some] = _sums(square, w[some, : max(lengths)] > 0)
        norm = torch.from_numpy(np.sqrt(squares.numpy()))  # torch's own root of a vector may be one bit off
        ctx.save_for_backward(frames, w, average, norm)
        return average, norm

    @staticmethod
    def backward(ctx: Any, by_mean: Tensor, by_norm: Tensor) -> tuple[Tensor, None]:
        frames, w, average, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            found = _batched(frames, w)
            return torch.autograd.grad(found, frames, (by_mean, by_norm), create_graph=True)[0], None
        gradient, share = torch.empty_like(frames), w.to(frames.dtype).unsqueeze(2)
        average, by_mean = average.unsqueeze(1), by_mean.unsqueeze(1)
        factor = torch.where(norm > 0, by_norm / norm, 0).unsqueeze(1)
        for some, lengths in _blocks(w, frames.size(2)):
            end = max(lengths)
            out = torch.sub(frames[some, :end], average[some], out=gradient[some, :end])
            out.mul_(factor[some]).addcmul_(share[some, :end], by_mean[some])
            for row, length in zip(gradient[some], lengths):
                row[length:] = 0
        return gradient, None


def _sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sums [n, D] of values [n, T, D] where the mask [n, T] is true: frame by frame, in the order of `vector_norm`."""
    lengths, numbers = mask.sum(dim=1), mask.flatten().nonzero().squeeze(1)
    return embedding_bag(numbers, values.flatten(0, 1), lengths.cumsum(0) - lengths, mode="sum")


def _blocks(w: Tensor, dim: int) -> Iterator[tuple[slice, list[int]]]:
    """Some utterances, and the numbers of their frames."""
    size = max(1, AT_ONCE * torch.get_num_threads() // (w.size(1) * dim))
    lengths = (w > 0).sum(dim=1).tolist()
    for first in range(0, len(w), size):
        some = slice(first, first + size)
        yield some, lengths[some]


register_name(
    "SP",
    "AP+std",
    family="moments",
    source="arXiv 2304.03940, Table 1",
    doc="AP+std with the published arithmetic: unbiased standard deviation + 1e-5.",
    moments=published_mean_and_deviation,
)
