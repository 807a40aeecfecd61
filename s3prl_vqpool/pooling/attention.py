"""Learned poolings: SAP, ASP (one weight per frame) and VAP (one per frame and channel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .attended import SELF, VECTOR, Attention, moments
from .batch import check_frames, check_lengths
from .options import Option, whole
from .registry import register_learned

_PAPER = "arXiv 2304.03940, Table 2"


def _moments(
    attention: Attention, frames: Tensor, lengths: Tensor, dim: int, parameters: Sequence[Tensor], both: bool
) -> tuple[Tensor, ...]:
    check_frames(frames, dim)
    lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
    return moments(attention, frames, lengths, parameters, both)


def _mean_and_deviation(mean: Tensor, variance: Tensor, floor: float) -> Tensor:
    """[B, 2 D]; the variance is clamped from below at ``floor``."""
    return torch.cat([mean, variance.clamp_min(floor).sqrt()], dim=1)


def _matrix(convolution: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Weight [O, I] and bias of a 1x1 convolution."""
    return convolution.weight.squeeze(2), cast(Tensor, convolution.bias)


class _SelfAttentive(nn.Module):
    """Parameters named and shaped as in the published code: ``sap_linear``, ``attention`` [D, 1]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.sap_linear = nn.Linear(dim, dim)
        self.attention = nn.Parameter(nn.init.xavier_normal_(torch.empty(dim, 1)))

    def moments(self, frames: Tensor, lengths: Tensor, both: bool) -> tuple[Tensor, ...]:
        parameters = (self.sap_linear.weight, self.sap_linear.bias, self.attention)
        return _moments(SELF, frames, lengths, self.dim, parameters, both)


@register_learned("SAP", source=_PAPER)
class SelfAttentivePooling(_SelfAttentive):
    """``w @ H`` with ``w = softmax(tanh(H W + b) a)`` over real frames: [B, D].

    Source: arXiv 2304.03940, Table 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.output_dim = dim

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, D] of frames [B, T, D] with lengths [B]; codes are ignored."""
        return self.moments(frames, lengths, both=False)[0]


@register_learned("ASP", source=_PAPER, multiple=2)
class AttentiveStatisticsPooling(_SelfAttentive):
    """Mean and ``sqrt(max(w @ H^2 - mean^2, 1e-5))`` under SAP's weights, concatenated: [B, 2 D].

    Source: arXiv 2304.03940, Table 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.output_dim = 2 * dim

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, 2 D] of frames [B, T, D] with lengths [B]; codes are ignored."""
        mean, variance = self.moments(frames, lengths, both=True)
        return _mean_and_deviation(mean, variance, 1e-5)


@register_learned("VAP", source=_PAPER, multiple=2, options=(Option("hidden", 128, whole),))
class VectorAttentivePooling(nn.Module):
    """Mean and deviation (variance at least 1e-12) under weights per channel, concatenated: [B, 2 D].

    ``softmax_t(conv_2(tanh(conv_1(H))))``, both convolutions 1x1, D -> hidden -> D.
    Parameters are named and shaped as in the published code. Source: arXiv 2304.03940, Table 2.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dim = dim
        self.output_dim = 2 * dim
        self.conv_1 = nn.Conv1d(dim, hidden, kernel_size=1)
        self.conv_2 = nn.Conv1d(hidden, dim, kernel_size=1)

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, 2 D] of frames [B, T, D] with lengths [B]; codes are ignored."""
        parameters = (*_matrix(self.conv_1), *_matrix(self.conv_2))
        mean, variance = _moments(VECTOR, frames, lengths, self.dim, parameters, both=True)
        return _mean_and_deviation(mean, variance, 1e-12)
