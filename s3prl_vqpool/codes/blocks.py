"""A convolutional feature extractor computed in blocks that stay in the CPU's cache, with the same numbers.

The first layer of wav2vec 2.0 gives 65 MB for 10 s of audio. torch writes that to fresh memory, several times, for all
utterances of a batch at once: the system clears the pages, and every next layer reads them from main memory. Here two
utterances at a time go through all layers, some frames at a time. Where the first layer normalises over time
(GroupNorm, base), it is computed for the whole row, some channels at a time: no frame of the padded batch is left out.

With more than two threads, torch may compute the last few numbers of each thread's share of a GELU without vector
instructions, which rounds them differently, and the shares depend on the size of the tensor. So there, blocks equal
the whole up to rounding only, and are used inside `up_to_rounding` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import pieces

FRAMES = 64
"""Frames of a block for each thread of torch, over its rows. Blocks of 50 to 100 frames take the same time."""
_CHANNELS = 32
"""Channels of the first layer that are normalised at once, for each thread."""
_SMALL = 2**21
"""Numbers of the first layer's output that stay in the cache anyway."""
_NUMBERS = 20480
"""A single row of no more numbers goes through another kernel of torch, which rounds differently (`use_mkldnn` in
aten/src/ATen/native/Convolution.cpp)."""
_EXACT_THREADS = 2

_rounding_allowed: ContextVar[bool] = ContextVar("rounding_allowed", default=False)


@contextmanager
def up_to_rounding() -> Iterator[None]:
    """Inside this context, blocks are used with any number of threads."""
    token = _rounding_allowed.set(True)
    try:
        yield
    finally:
        _rounding_allowed.reset(token)


def install(extractor: nn.Module) -> None:
    """From now on ``extractor`` computes in blocks where that applies: CPU, evaluation, no gradient, no autocast.

    Args:
        extractor: S3PRL's or Hugging Face's of wav2vec 2.0, which runs its ``conv_layers`` one after the other.
    """
    if pieces.divisible(extractor):
        vars(extractor)["forward"] = partial(features, extractor)


def features(extractor: nn.Module, source: Tensor) -> Tensor:
    """[B, C, T] of padded waveforms [B, S], as the extractor's own forward gives it."""
    if not _applies(extractor, source):
        return type(extractor).forward(extractor, source)
    groups = source[:, None].tensor_split(
        max(len(source) // 2, 1)
    )  # never one row of several, see `_NUMBERS`
    return torch.cat([_of_rows(pieces.layers(extractor), rows) for rows in groups])


def _applies(extractor: nn.Module, source: Tensor) -> bool:
    changed = any(
        "forward" in vars(norm) for norm in pieces.every(extractor, nn.GroupNorm)
    )  # as `pieces` does
    (conv,) = pieces.every(pieces.layers(extractor)[0], nn.Conv1d)
    return (
        source.device.type == "cpu"
        and source.dtype == torch.float32
        and source.numel() // conv.stride[0] * conv.out_channels > _SMALL
        and not (extractor.training or changed)
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        and torch.backends.mkldnn.is_available()
        and (_rounding_allowed.get() or torch.get_num_threads() <= _EXACT_THREADS)
    )


def _of_rows(layers: Sequence[nn.Module], given: Tensor) -> Tensor:
    """[R, C, T] of rows [R, 1, S]."""
    if pieces.every(layers[0], nn.GroupNorm):
        given, layers = _first(layers[0], given), layers[1:]
    window, hop = pieces.geometry(*layers)
    total = (given.size(2) - window) // hop + 1
    count = max(total // _frames(layers, len(given)), 1)
    edges = [total * k // count for k in range(count + 1)]
    parts = []
    for start, end in pairwise(edges):
        last = end == total  # a single block is all there is, with what makes no whole frame
        part = given[:, :, start * hop : None if last else (end - 1) * hop + window]
        for layer in layers:
            part = layer(part)
        parts.append(part)
    return torch.cat(parts, dim=2)


def _frames(layers: Sequence[nn.Module], rows: int) -> int:
    """Frames that a block has at least."""
    frames = FRAMES * torch.get_num_threads() // rows
    if rows > 1:
        return frames
    for k, layer in enumerate(layers):
        (conv,) = pieces.every(layer, nn.Conv1d)
        frames = max(frames, _NUMBERS // (conv.in_channels * pieces.geometry(*layers[k:])[1]) + 1)
    return frames


def _first(layer: nn.Module, given: Tensor) -> Tensor:
    """[R, C, T] of rows [R, 1, S]: convolution, GroupNorm of each channel over time, activation."""
    (conv,), (norm,) = pieces.every(layer, nn.Conv1d), pieces.every(layer, nn.GroupNorm)
    (activation,) = (
        each for each in layer.children() if not isinstance(each, (nn.Conv1d, nn.Dropout, nn.GroupNorm))
    )
    length = (given.size(2) - conv.kernel_size[0]) // conv.stride[0] + 1
    output = given.new_empty(len(given), conv.out_channels, length)
    step = _CHANNELS * torch.get_num_threads()
    for start in range(0, conv.out_channels, step):
        chosen = slice(start, start + step)
        bias, scale, shift = (
            None if each is None else each[chosen] for each in (conv.bias, norm.weight, norm.bias)
        )
        part = F.conv1d(given, conv.weight[chosen], bias, conv.stride)
        output[:, chosen] = activation(F.group_norm(part, part.size(1), scale, shift, norm.eps))
    return output
