"""Real frames of a few utterances as the rows of one matrix, and products of such matrices, on a CPU.

A block of rows stays in a processor's cache from one operation to the next, and padding costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

AT_ONCE = 2**18
"""Numbers of frames that a thread works on at once: 1 MiB, which stays in a processor's cache."""
_STEP = 16
"""The number of rows is rounded up to this: oneDNN compiles a kernel for each shape that it meets."""


class Part(NamedTuple):
    """The real frames of utterance ``number`` are the rows ``own`` of a block."""

    number: int
    own: slice


class Block(NamedTuple):
    """``rows`` [R, D]: real frames of some utterances, then rows of 0."""

    rows: Tensor
    parts: tuple[Part, ...]

    def write(self, values: Tensor, frames: Tensor) -> None:
        """Writes ``values`` [R, D] to where the rows come from in ``frames`` [B, T, D], and 0 to padding."""
        for number, own in self.parts:
            length = own.stop - own.start
            frames[number, :length] = values[own]
            frames[number, length:] = 0


def usable(frames: Tensor) -> bool:
    """Whether to work in blocks: float32 or float64 on a CPU, outside of autocast, compilation and torch.func."""
    return (
        frames.device.type == "cpu"
        and frames.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def blocks(frames: Tensor, lengths: Sequence[int]) -> Iterator[Block]:
    """Utterances of frames [B, T, D], at least one and at most about `AT_ONCE` numbers at a time.

    A block is overwritten by the next one.
    """
    found = list(_parts(lengths, AT_ONCE * torch.get_num_threads() // frames.size(2)))
    room = frames.new_empty(max(map(_height, found)), frames.size(2))
    for parts in found:
        for number, own in parts:
            room[own] = frames[number, : lengths[number]]
        rows = room[: _height(parts)]
        rows[parts[-1].own.stop :] = 0
        yield Block(rows, parts)


def _parts(lengths: Sequence[int], most: int) -> Iterator[tuple[Part, ...]]:
    parts: list[Part] = []
    for number, length in enumerate(lengths):
        start = parts[-1].own.stop if parts else 0
        if parts and start + length > most:
            yield tuple(parts)
            parts, start = [], 0
        parts.append(Part(number, slice(start, start + length)))
    yield tuple(parts)


def _height(parts: Sequence[Part]) -> int:
    return -(-parts[-1].own.stop // _STEP) * _STEP


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, tanh: bool = False) -> Tensor:
    """``x @ weight.T + bias``, and its tanh, of x [..., I] and weight [O, I]: [..., O].

    Where a processor has AVX-512, oneDNN uses it in float32. MKL, which torch takes, does so on Intel's alone.
    """
    if x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "tanh" if tanh else "none", [], "")
    made = torch.nn.functional.linear(x, weight, bias)
    return made.tanh_() if tanh else made


def add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Adds ``x.T @ y`` to ``total`` [I, J], for x [R, I] and y [R, J]."""
    total += product(x.t(), y.t())
