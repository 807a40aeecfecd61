"""H linear heads of SUPERB side by side: logits of pooled vectors, and gradients of the parameters.

Everything between hidden states and logits of that head is linear, so the weighted sum over layers and the projector
may come after the pooling, and of the two products ``values @ projector.T @ output.T`` either may come first: that of
projector and output layer, if there are fewer classes than utterances. The gradients are written out, so that the
projector's, nearly all of a head's numbers, stays two small factors until its head is updated: the norm follows from
them, and clipping scales one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

#: Names of the parameters in S3PRL's checkpoints; that of the layers is absent where there is only one.
LAYERS = "weights"
PROJECTOR, PROJECTOR_BIAS = "projector.weight", "projector.bias"
OUTPUT, OUTPUT_BIAS = "model.post_net.linear.weight", "model.post_net.linear.bias"

#: Parameters or gradients by name, [H, ...] each: [H, L], [H, P, D], [H, P], [H, C, P], [H, C].
Stacked = Mapping[str, Tensor]


class Forward(NamedTuple):
    """What `forward` computed: logits [H, B, C], and what `backward` needs of the rest.

    ``product`` is [H, C, D], output layer times projector, or [H, B, P], what the projector makes of the values.
    """

    logits: Tensor
    vectors: Tensor  # [B, L, D]
    weights: Tensor | None  # [H, L]
    values: Tensor  # [H, B, D]
    product: Tensor


def forward(parameters: Stacked, vectors: Tensor) -> Forward:
    """The logits of pooled vectors [B, L, D]."""
    projector, output = parameters[PROJECTOR], parameters[OUTPUT]
    if LAYERS in parameters:
        weights = parameters[LAYERS].softmax(dim=1)
        values = (weights @ vectors).transpose(0, 1)
    else:
        weights, values = None, vectors[:, 0].expand(len(projector), -1, -1)
    bias = torch.baddbmm(parameters[OUTPUT_BIAS][..., None], output, parameters[PROJECTOR_BIAS][..., None])
    if _output_first(output, values):
        product = output @ projector
        logits = torch.baddbmm(bias.mT, values, product.mT)
    else:
        product = values @ projector.mT
        logits = torch.baddbmm(bias.mT, product, output.mT)
    return Forward(logits, vectors, weights, values, product)


def backward(
    parameters: Stacked, done: Forward, gradient: Tensor, gradients: Stacked
) -> tuple[Tensor, Tensor]:
    """Gradients of the parameters, of a loss with this ``gradient`` [H, B, C] by the logits.

    They are added to ``gradients``; but that of the projector, as large as all others together, is returned as two
    factors, [H, K, P] and [H, K, D] with K the less of C and B: it is ``left.mT @ right``.
    """
    projector, output = parameters[PROJECTOR], parameters[OUTPUT]
    by_bias = gradient.sum(dim=1, keepdim=True)  # [H, 1, C]
    gradients[OUTPUT_BIAS].add_(by_bias.squeeze(1))
    gradients[PROJECTOR_BIAS].add_((by_bias @ output).squeeze(1))
    gradients[OUTPUT].baddbmm_(by_bias.mT, parameters[PROJECTOR_BIAS][:, None])
    if _output_first(output, done.values):
        left, right = output, gradient.mT @ done.values
        gradients[OUTPUT].baddbmm_(right, projector.mT)
        by_values = gradient @ done.product
    else:
        left, right = gradient @ output, done.values
        gradients[OUTPUT].baddbmm_(gradient.mT, done.product)
        by_values = left @ projector
    if done.weights is not None:
        by_weights = (done.vectors @ by_values.permute(1, 2, 0)).sum(dim=0).T  # [H, L]
        mean = (by_weights * done.weights).sum(dim=1, keepdim=True)
        gradients[LAYERS].add_(done.weights * (by_weights - mean))
    return left, right


def _output_first(output: Tensor, values: Tensor) -> bool:
    return output.size(1) < values.size(1)
