"""The weighted sum at the end of every pooling, and the equal weights of AP."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .batch import check_frames


def pool(frames: Tensor, w: Tensor) -> Tensor:
    """Weighted sum of each utterance's frames: ``v_b = sum_t w[b, t] * frames[b, t]``.

    A frame of weight 0 is ignored, whatever it holds: NaN and infinity in padding reach neither the result nor the
    gradients.

    Args:
        frames: [B, T, D], floating dtype.
        w: [B, T], on the device of ``frames``, as from `weights`.

    Returns:
        [B, D], in the dtype of ``frames``.

    Raises:
        InputError: shapes that do not fit.

    Examples:
        >>> import torch
        >>> pool(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[0.25, 0.75]]))
        tensor([[2.5000, 3.5000]])
    """
    check_weights(frames, w)
    w = w.to(frames.dtype)
    if not w.requires_grad:
        pooled = torch.bmm(w.unsqueeze(1), frames).squeeze(1)
        # Masking first would copy all frames; a NaN in padding is rare and shows in the result.
        if pooled.detach().sum().isfinite():
            return pooled
    return torch.bmm(w.unsqueeze(1), frames.masked_fill((w == 0).unsqueeze(2), 0)).squeeze(1)


def check_weights(frames: Tensor, w: Tensor) -> None:
    """Raise InputError unless ``frames`` is a floating [B, T, D] and ``w`` is [B, T]."""
    check_frames(frames)
    if w.shape != frames.shape[:2]:
        raise InputError(f"Expected weights [B, T] = {list(frames.shape[:2])}, but got {list(w.shape)}.")


def uniform(mask: Tensor) -> Tensor:
    """Equal weights float32 [B, T] of the real frames in ``mask`` [B, T]."""
    return mask.float() / mask.sum(dim=1, keepdim=True)
