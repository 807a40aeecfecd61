"""The public functions: `weights` gives weights of frames, and `build` gives any pooling as a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from .batch import check_code_shape, check_lengths
from .counts import Counts
from .maps import LinearMap
from .point import Point, code_weights, without_codes
from .registry import method, methods


def weights(
    name: str,
    codes: Tensor,
    lengths: Tensor,
    *,
    counts: Counts | None = None,
    sizes: Sequence[int] | None = None,
    **options: Any,
) -> Tensor:
    """Weight of every frame under the pooling ``name``: ``w >= 0``, ``sum_t w[b, t] = 1``.

    Args:
        name: a pooling that is weights alone: AP, VQ-Squash-AND, VQ-LP, ... (no ``+std``, no map).
        codes: [B, T, G], any integer dtype: index of each frame in each of the G codebooks. Values
            beyond ``lengths`` are ignored. AP uses only its shape.
        lengths: [B], number of real frames of each utterance, in [1, T].
        counts: training statistics, for VQ-SIF, VQ-GP and VQ-BP.
        sizes: number of entries of each codebook, to check ``codes`` against; by default those of ``counts``,
            or any.
        options: those of the pooling (``method(name).options``), such as VQ-SIF's ``a``.

    Returns:
        [B, T] float32 on the device of ``codes``, exactly 0 on padding.

    Raises:
        InputError: an unknown name, a pooling without a weight per frame, missing counts, an unknown option or
            a value that it does not take, a wrong shape or dtype, a length outside [1, T], a code outside its
            codebook. One line, which names the first one.

    Source: arXiv 2304.03940, Figure 1 and Table 1.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[[0, 5], [0, 5], [1, 6], [-1, -1]]])  # one utterance of three frames, padded to four
        >>> weights("VQ-LP", codes, lengths=torch.tensor([3]))
        tensor([[0.2500, 0.2500, 0.5000, 0.0000]])
    """
    known = method(name)
    if not known.weights_alone or known.weights is None:
        offered = ", ".join(n for n in methods() if method(n).weights_alone)
        raise InputError(
            f"{known.name} has no weight per frame; use build({known.name!r}, dim). With weights: {offered}."
        )
    values = known.with_defaults(options)
    if not known.needs_codes:
        check_code_shape(codes)
        lengths = check_lengths(lengths, codes.shape[0], codes.shape[1], codes.device)
        return known.weights.implementation(without_codes(lengths, codes.shape[1]), **values)
    return code_weights(known, codes, lengths, counts, sizes, values)


def build(
    name: str,
    dim: int,
    *,
    counts: Counts | None = None,
    statistics: LinearMap | None = None,
    **options: Any,
) -> nn.Module:
    """Pooling ``name`` as a module ``(frames, lengths, codes=None) -> [B, module.output_dim]``.

    Called with frames [B, T, dim] of a floating dtype, lengths [B] and, where the pooling needs them, codes
    [B, T, G]. Training statistics are buffers, so a state dict carries them, and a module that was built
    without takes them from the state dict that it loads, or later by ``module.set_statistics(...)``.

    Args:
        name: ``WEIGHTS[+std][|MAP]``, or any of `methods`.
        dim: D, size of a frame.
        counts: training statistics of codes, for VQ-SIF, VQ-GP and VQ-BP.
        statistics: what `fit` gave, for a pooling with a map.
        options: those of the pooling (``method(name).options``), such as VQ-SIF's ``a`` or VAP's ``hidden``.

    Raises:
        InputError: an unknown name, statistics or an option that this pooling does not take, or a value that the
            option does not take.

    Examples:
        >>> import torch
        >>> pooling = build("VQ-LP", dim=2)
        >>> frames = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> pooling(frames, torch.tensor([3]), codes=torch.tensor([[[0, 5], [0, 5], [1, 6]]]))
        tensor([[0.5000, 0.5000]])
    """
    known = method(name)
    if dim < 1:
        raise InputError(f"Expected dim >= 1, but got {dim}.")
    values = known.with_defaults(options)
    if counts is not None and not known.needs_counts:
        raise InputError(f"{known.name} takes no counts: leave them out.")
    if statistics is not None and known.map is None:
        raise InputError(f"{known.name} takes no statistics of vectors: leave them out.")
    if known.learned is not None:
        return known.learned(dim, **values)
    module = Point(known, dim, values)
    module.set_statistics(*(each for each in (counts, statistics) if each is not None))
    return module
