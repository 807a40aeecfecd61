"""Partition methods: K groups of frames, each with weight 1/K, shared equally by its frames.

Paper: arXiv 2304.03940, Figure 1. ``w_t = 1 / (K * |group(t)|)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from .batch import Batch, ranks
from .components import connected_components
from .registry import register_weights
from .runs import first_frame_runs

_PAPER = "arXiv 2304.03940, Figure 1"


def group_weights(groups: Tensor, mask: Tensor) -> Tensor:
    """``1 / (K * |group(t)|)`` float32 [B, T] on real frames, from group labels [B, T] in [0, T).

    A label of a real frame is not one of a padded frame.
    """
    members = mask.float()
    sizes = torch.zeros_like(members).scatter_add_(1, groups, members)
    count = (sizes > 0).sum(dim=1, keepdim=True)
    return members / (sizes.gather(1, groups) * count).clamp_min(1)


def _neighbour_weights(batch: Batch, joined: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Groups are runs in which frames t and t + 1 agree in the codebooks taken together by ``joined``."""
    same = reduce(joined, (codes[:, 1:] == codes[:, :-1] for codes in batch.codes))
    runs = torch.zeros_like(batch.mask, dtype=torch.int64)
    torch.cumsum(~(same & batch.mask[:, 1:]), dim=1, out=runs[:, 1:])
    return group_weights(runs, batch.mask)


@register_weights("VQ-Squash-AND", family="partition", source=_PAPER + " (a)", needs_codes=True)
def squash_and(batch: Batch) -> Tensor:
    """Groups are runs of neighbours whose index tuples are all equal."""
    return _neighbour_weights(batch, torch.logical_and)


@register_weights("VQ-Squash-OR", family="partition", source=_PAPER + " (b)", needs_codes=True)
def squash_or(batch: Batch) -> Tensor:
    """Groups are chains of neighbours, each pair of which agrees in at least one codebook."""
    return _neighbour_weights(batch, torch.logical_or)


@register_weights(
    "VQ-Squash-OR@code",
    family="partition",
    source="published code of arXiv 2304.03940",
    needs_codes=True,
)
def squash_or_code(batch: Batch) -> Tensor:
    """Groups are runs whose frames all agree with the run's first frame in at least one codebook."""
    return group_weights(first_frame_runs(batch), batch.mask)


@register_weights("VQ-AllSquash-AND", family="partition", source=_PAPER + " (c)", needs_codes=True)
def all_squash_and(batch: Batch) -> Tensor:
    """Groups are frames of equal index tuples, anywhere in the utterance."""
    return group_weights(ranks(batch.tuples), batch.mask)


@register_weights("VQ-AllSquash-OR", family="partition", source=_PAPER + " (d)", needs_codes=True)
def all_squash_or(batch: Batch) -> Tensor:
    """Groups are connected components of frames, linked where they agree in at least one codebook."""
    return group_weights(connected_components(batch), batch.mask)
