"""Learned weights of the upstream's layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@style.styled
def layer_weights(weights: Mapping[str, Tensor], axes: Axes | None = None) -> Axes:
    """Draws the weight that each experiment gives to each layer, and as a dotted line equal weights.

    Args:
        weights: by the experiment's name, floating [layers] of sum 1: the softmax of the parameter ``weights`` of
            S3PRL's Featurizer (s3prl/upstream/interfaces.py).
    """
    given, axes, entries = axes is not None, style.single(axes, 4.5, 2.2 + 0.16 * -(-len(weights) // 2)), {}
    for number, (name, each) in enumerate(weights.items()):
        (entries[name],) = axes.plot(range(len(each)), each.detach().numpy(), **style.line(number))
    for layers in sorted({len(each) for each in weights.values()}):
        axes.hlines(1 / layers, 0, layers - 1, colors="#777777", linestyles=":", linewidth=1)
    axes.set(xlabel="layer", ylabel="learned weight", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y")
    style.legend([axes], given, entries, columns=2)
    return axes
