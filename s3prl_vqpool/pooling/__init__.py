"""Every pooling of arXiv 2304.03940, in torch alone.

Examples:
    >>> import torch
    >>> codes = torch.tensor([[[0, 5], [0, 5], [1, 5], [2, 6]]])  # [B, T, G]
    >>> w = weights("VQ-AllSquash-OR", codes, lengths=torch.tensor([4]))  # [B, T], rows sum to 1
    >>> w
    tensor([[0.1667, 0.1667, 0.1667, 0.5000]])
    >>> pool(torch.eye(4)[None], w)  # frames [B, T, D] to vectors [B, D]
    tensor([[0.1667, 0.1667, 0.1667, 0.5000]])
"""

from importlib import import_module
from pkgutil import iter_modules

from .api import build, weights
from .counts import Counts, counts
from .maps import LinearMap, fit
from .moments import mean_and_deviation
from .options import Option
from .registry import Method, method, methods, points, register_weights, select
from .weighted import pool

__all__ = [
    "Counts",
    "LinearMap",
    "Method",
    "Option",
    "build",
    "counts",
    "fit",
    "mean_and_deviation",
    "method",
    "methods",
    "points",
    "pool",
    "register_weights",
    "select",
    "weights",
]

for _module in iter_modules(__path__):  # a file in this folder is all that a pooling needs
    import_module(f"{__name__}.{_module.name}")
