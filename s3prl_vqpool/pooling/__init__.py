"""Every pooling of arXiv 2304.03940, in torch alone.

>>> import torch
>>> codes = torch.tensor([[[0, 5], [0, 5], [1, 5], [2, 6]]])
>>> weights("VQ-AllSquash-OR", codes, torch.tensor([4])).tolist()
[[0.1666666716337204, 0.1666666716337204, 0.1666666716337204, 0.5]]
"""

from s3prl_vqpool.pooling import attention, moments, partition, probability  # noqa: F401 (they register)
from s3prl_vqpool.pooling.api import build, weights
from s3prl_vqpool.pooling.counts import Counts, counts
from s3prl_vqpool.pooling.linear import LinearMap, SoftDecay, Whitening
from s3prl_vqpool.pooling.registry import Method, method, methods
from s3prl_vqpool.pooling.weighted import pool

__all__ = [
    "Counts",
    "LinearMap",
    "Method",
    "SoftDecay",
    "Whitening",
    "build",
    "counts",
    "method",
    "methods",
    "pool",
    "weights",
]
