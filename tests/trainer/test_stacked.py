"""The batched linear head: against torch's own linear layers and gradients, head by head, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from s3prl_vqpool.trainer import stacked
from s3prl_vqpool.trainer.stacked import LAYERS, OUTPUT, OUTPUT_BIAS, PROJECTOR, PROJECTOR_BIAS

HEADS, DIM, PROJECTED = 3, 11, 7


def parameters_of(classes: int, layers: int) -> dict[str, Tensor]:
    shapes = {
        LAYERS: (layers,),
        PROJECTOR: (PROJECTED, DIM),
        PROJECTOR_BIAS: (PROJECTED,),
        OUTPUT: (classes, PROJECTED),
        OUTPUT_BIAS: (classes,),
    }
    made = {name: torch.randn(HEADS, *shape, dtype=torch.float64) for name, shape in shapes.items()}
    return made if layers > 1 else {name: value for name, value in made.items() if name != LAYERS}


def logits_of_one(parameters: dict[str, Tensor], vectors: Tensor) -> Tensor:
    """As S3PRL's Featurizer and UtteranceLevel compute them, but for the pooling, which comes before."""
    if LAYERS in parameters:
        values = (parameters[LAYERS].softmax(dim=0)[:, None, None] * vectors.transpose(0, 1)).sum(dim=0)
    else:
        values = vectors[:, 0]
    hidden = F.linear(values, parameters[PROJECTOR], parameters[PROJECTOR_BIAS])
    return F.linear(hidden, parameters[OUTPUT], parameters[OUTPUT_BIAS])


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize(("classes", "utterances"), [(4, 6), (6, 6), (9, 6)])
def test_stacked_gradients_equal_autograd(classes: int, utterances: int, layers: int) -> None:
    """Of two batches one after the other; fewer classes than utterances, as many, more."""
    torch.manual_seed(classes)
    parameters = parameters_of(classes, layers)
    gradients = {name: torch.zeros_like(value) for name, value in parameters.items() if name != PROJECTOR}
    projector = torch.zeros_like(parameters[PROJECTOR])
    expected = [
        {name: value[head].clone().requires_grad_() for name, value in parameters.items()}
        for head in range(HEADS)
    ]
    for _ in range(2):
        vectors = torch.randn(utterances, layers, DIM, dtype=torch.float64)
        by_logits = torch.randn(HEADS, utterances, classes, dtype=torch.float64)
        done = stacked.forward(parameters, vectors)
        left, right = stacked.backward(parameters, done, by_logits, gradients)
        assert left.size(1) == right.size(1) <= min(classes, utterances)
        projector += left.mT @ right
        for head, own in enumerate(expected):
            logits = logits_of_one(own, vectors)
            assert_close(done.logits[head], logits.detach(), rtol=1e-12, atol=1e-12)
            logits.backward(by_logits[head])
    for head, own in enumerate(expected):
        for name, value in own.items():
            found = projector if name == PROJECTOR else gradients[name]
            assert_close(found[head], value.grad, rtol=1e-10, atol=1e-12)
