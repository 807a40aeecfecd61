"""How often each entry of a codebook is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def perplexity(counts: Tensor) -> float:
    """``exp`` of the entropy of the entries' frequencies: the number of entries, if all were used alike.

    Args:
        counts: [V], how often each entry occurs; not all 0.

    Examples:
        >>> import torch
        >>> round(perplexity(torch.tensor([5, 5, 0, 0])), 6)
        2.0
    """
    share = counts.double() / counts.sum()
    return float(torch.exp(torch.special.entr(share).sum()))


@style.styled
def codebook(counts: Sequence[Tensor], axes: Axes | None = None) -> Axes:
    """Draws the usage of codebooks: counts of the entries, most frequent first, on a logarithmic axis.

    The legend gives for each codebook the entries that occur, and the perplexity. Entries that never occur have no
    line.

    Args:
        counts: for each codebook g, int [V_g]: frames with each entry.

    Raises:
        InputError: a codebook without any frame.
    """
    given, axes, entries = axes is not None, style.single(axes, 4.0), {}
    for number, each in enumerate(counts):
        if not each.sum():
            raise InputError(f"Codebook {number + 1}: no frame has any of its entries; nothing can be drawn.")
        used, size = int((each > 0).sum()), len(each)
        label = f"codebook {number + 1}: {used} of {size} used, perplexity {perplexity(each):.1f}"
        look = style.line(number)
        entries[label] = axes.stairs(
            each.sort(descending=True).values.numpy(),
            color=look["color"],
            linestyle=look["linestyle"],
            linewidth=1.3,
            baseline=None,
        )
    axes.set(yscale="log", xlabel="entries, most frequent first", ylabel="frames", xlim=(0, None))
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter("")
    style.legend([axes], given, entries, columns=1)
    return axes
