"""Learned poolings: SAP, ASP (one weight per frame) and VAP (one per frame and channel)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s3prl_vqpool.pooling.batch import check_frames, check_lengths, frame_mask
from s3prl_vqpool.pooling.options import Option, whole
from s3prl_vqpool.pooling.registry import register_learned

_PAPER = "arXiv 2304.03940, Table 2"


def _masked(frames: Tensor, lengths: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Frames [B, T, D] with 0 on padding, and the mask [B, T, 1]."""
    check_frames(frames, dim)
    lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
    mask = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
    return frames.masked_fill(~mask, 0), mask


def _weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over time of scores [B, T, 1 or D], exactly 0 on padding."""
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=1)


def _weighted_moments(frames: Tensor, w: Tensor, floor: float) -> Tensor:
    """Weighted mean and root of the variance, clamped from below at ``floor``, [B, 2 D].

    ``sum_t w (h - mean)^2`` is the published ``sum_t w h^2 - mean^2`` without its cancellation.
    """
    mean = (w * frames).sum(dim=1)
    variance = (w * (frames - mean.unsqueeze(1)).square()).sum(dim=1)
    return torch.cat([mean, variance.clamp_min(floor).sqrt()], dim=1)


class _SelfAttentive(nn.Module):
    """Parameters named and shaped as in the published code: ``sap_linear``, ``attention`` [D, 1]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.sap_linear = nn.Linear(dim, dim)
        self.attention = nn.Parameter(nn.init.xavier_normal_(torch.empty(dim, 1)))

    def frame_weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        return _weights(torch.tanh(self.sap_linear(frames)) @ self.attention, mask)  # [B, T, 1]


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
        frames, mask = _masked(frames, lengths, self.dim)
        w = self.frame_weights(frames, mask)
        return torch.bmm(w.transpose(1, 2), frames).squeeze(1)


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
        frames, mask = _masked(frames, lengths, self.dim)
        return _weighted_moments(frames, self.frame_weights(frames, mask), 1e-5)


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
        frames, mask = _masked(frames, lengths, self.dim)
        hidden = torch.tanh(self.conv_1(frames.transpose(1, 2)))  # [B, hidden, T]
        w = _weights(self.conv_2(hidden).transpose(1, 2), mask)  # [B, T, D]
        return _weighted_moments(frames, w, 1e-12)
