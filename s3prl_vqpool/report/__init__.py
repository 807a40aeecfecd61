"""Figures: one function each, from tensors, arrays or DataFrames to axes. They need the extra `report`.

Each takes the axes to draw into, and makes them if there are none; `style.save` writes SVG, PDF or PNG.

Examples:
    >>> import torch
    >>> from s3prl_vqpool import report
    >>> axes = report.codebook([torch.tensor([8, 0, 4, 4])])  # doctest: +SKIP
    >>> report.save(axes.figure, "codebook.svg")  # doctest: +SKIP
"""

from .accuracy import accuracy
from .codebook import codebook
from .confusion import confusion
from .curves import curves
from .embedding import embedding, tsne
from .layer_weights import layer_weights
from .layers import layers
from .style import save
from .utterance import utterance

__all__ = [
    "accuracy",
    "codebook",
    "confusion",
    "curves",
    "embedding",
    "layer_weights",
    "layers",
    "save",
    "tsne",
    "utterance",
]
