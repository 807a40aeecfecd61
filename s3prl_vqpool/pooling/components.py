"""Connected components of frames that share a codebook entry, on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch


def connected_components(batch: Batch) -> Tensor:
    """Components of the graph whose frames are linked where they agree in at least one codebook.

    Labels [B, T]: each frame's component, named by one of its frames.

    Boruvka on stars: every frame points at the root of its tree. In a round each root hooks to another tree
    that it shares an entry with: to the one of smallest root if that is smaller than itself, else to the
    largest. Along such hooks the smaller ones descend, so the only cycles are pairs of roots that hook to
    each other, of which the smaller stays a root. Each tree that is not yet a whole component hooks or is
    hooked to, so their number at least halves: at most ``log2(T) + 1`` rounds, whatever the chain. Then
    pointer jumping makes stars again.

    Memory O(B T + B sum(V)), linear work per round; loops over codebooks and rounds only.
    """
    first, width = batch.entries[0]
    frame = torch.arange(first.shape[1], device=first.device).expand_as(first)
    # Frames of one entry of the first codebook are one tree from the start, so it needs no hooks.
    root = _table(first, width, frame, "amin").gather(1, first)
    while True:
        hook = _hooks(batch, root, frame)
        if torch.equal(hook, frame):
            return root
        mutual = (hook.gather(1, hook) == frame) & (frame < hook)
        hook = torch.where(mutual, frame, hook)
        root = _jumped(hook).gather(1, root)


def _jumped(hook: Tensor) -> Tensor:
    """Where each frame ends that follows ``hook`` [B, T]."""
    while not torch.equal(further := hook.gather(1, hook), hook):
        hook = further
    return hook


def _table(index: Tensor, width: int, values: Tensor, reduce: str) -> Tensor:
    limits = torch.iinfo(values.dtype)
    table = values.new_full((len(values), width), limits.max if reduce == "amin" else limits.min)
    return table.scatter_reduce_(1, index, values, reduce)


def _hooks(batch: Batch, root: Tensor, frame: Tensor) -> Tensor:
    """For each root a neighbouring root [B, T], or itself if it has none; for other frames, themselves."""
    lowest, highest = root, root
    for index, width in batch.entries[1:]:
        lowest = torch.minimum(lowest, _table(index, width, root, "amin").gather(1, index))
        highest = torch.maximum(highest, _table(index, width, root, "amax").gather(1, index))
    lowest = frame.scatter_reduce(1, root, lowest, "amin")
    highest = frame.scatter_reduce(1, root, highest, "amax")
    return torch.where(lowest < frame, lowest, highest)
