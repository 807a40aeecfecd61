"""Probability methods: rare code indices weigh more.

Paper: arXiv 2304.03940, Table 1. ``n_g(v)`` counts index v of codebook g in the utterance, ``N_g(v)`` in
the training set, ``p`` is the joint probability of an index tuple over the training set.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from .batch import Batch
from .counts import Counts
from .options import Option, positive
from .registry import register_weights

_PAPER = "arXiv 2304.03940, Table 1"


def _normalised(weights: Tensor, mask: Tensor) -> Tensor:
    weights = weights * mask
    return weights / weights.sum(dim=1, keepdim=True)


def _local_counts(batch: Batch) -> Tensor:
    """``sum_g n_g(q[t, g])``, float32 [B, T]; exact up to 2**24."""
    ones = torch.ones_like(batch.mask, dtype=torch.float32)
    total = torch.zeros_like(ones)
    for index, width in batch.entries:
        total += ones.new_zeros(ones.shape[0], width).scatter_add_(1, index, ones).gather(1, index)
    return total


def _global_counts(batch: Batch, counts: Counts) -> Tensor:
    """``sum_g N_g(q[t, g])``, float32 [B, T]; an index that never occurred in training counts as 1."""
    found = [entries.clamp_min(1) for entries in counts.of_entries(batch.codes)]
    return reduce(torch.add, found).float()


@register_weights(
    "VQ-SIF",
    family="probability",
    source=_PAPER,
    needs_codes=True,
    needs_counts=True,
    options=(Option("a", 1e-3, positive, grid=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),),
)
def sif(batch: Batch, counts: Counts, a: float) -> Tensor:
    """``a / (p(q_t) + a)``, normalised; a tuple that never occurred in training has p = 0.

    The grid of ``a`` is the range that the paper searches; the default is its middle.
    """
    p = counts.of_tuples(batch.codes).float() / counts.frames
    return _normalised(a / (p + a), batch.mask)


@register_weights("VQ-LP", family="probability", source=_PAPER, needs_codes=True)
def lp(batch: Batch) -> Tensor:
    """``1 / sum_g n_g(q[t, g])``, normalised."""
    return _normalised(_local_counts(batch).reciprocal(), batch.mask)


@register_weights(
    "VQ-GP",
    family="probability",
    source=_PAPER,
    needs_codes=True,
    needs_counts=True,
)
def gp(batch: Batch, counts: Counts) -> Tensor:
    """``1 / sum_g N_g(q[t, g])``, normalised."""
    return _normalised(_global_counts(batch, counts).reciprocal(), batch.mask)


@register_weights(
    "VQ-BP",
    family="probability",
    source=_PAPER,
    needs_codes=True,
    needs_counts=True,
)
def bp(batch: Batch, counts: Counts) -> Tensor:
    """VQ-LP's weight times VQ-GP's, normalised."""
    return _normalised((_local_counts(batch) * _global_counts(batch, counts)).reciprocal(), batch.mask)
