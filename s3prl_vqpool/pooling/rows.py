"""Real frames of a few utterances as the rows of one matrix, and products of such matrices, on a CPU.

A block of rows stays in a processor's cache from one operation to the next, and padding costs nothing. A sum over the
frames of each utterance is one operation for all utterances of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from math import gcd, prod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

AT_ONCE = 2**18
"""Numbers of frames that a thread works on at once: 1 MiB, which stays in a processor's cache."""
_STEP = 16
"""The number of rows is a multiple of this: oneDNN compiles a kernel for each shape that it meets."""
_RUN = 32
"""So many frames are added one after the other. The sums of such runs are added then: fewer roundings."""
_DEPTH = 512
"""A product adds at most so many rows, since oneDNN adds them one after the other."""


class Group(ABC):
    """The utterances ``some`` of a batch, n of them. Their N real frames are the first rows of a block.

    Blocks are [R, k]; rows behind the frames are 0 in what `blocks` gives. What belongs to whole utterances is [n, k].
    Values of the real frames are [n, T', k] if each utterance has T' frames, else [N, k]: operations that broadcast,
    and those below, need not know which.
    """

    def __init__(self, some: slice, sizes: Sequence[int]) -> None:
        self.some, self.sizes, self.count = some, sizes, sum(sizes)

    @property
    def height(self) -> int:
        """R."""
        return -(-self.count // _STEP) * _STEP

    def of(self, each: Tensor) -> Tensor:
        """`spread` of what belongs to the whole batch, [B, k]."""
        return self.spread(each[self.some])

    @abstractmethod
    def values(self, rows: Tensor) -> Tensor:
        """Those of a block [R, k], whose memory they share."""

    @abstractmethod
    def spread(self, each: Tensor) -> Tensor:
        """What belongs to the utterances, [n, k], as values of their frames, or in a shape that broadcasts to that."""

    @abstractmethod
    def sums(self, values: Tensor, w: Tensor | None = None) -> Tensor:
        """``sum_t w_t values_t`` of each utterance, [n, k]; of w, k is 1."""

    @abstractmethod
    def softmax(self, scores: Tensor) -> Tensor:
        """Of values, over the frames of each utterance."""

    @abstractmethod
    def read(self, frames: Tensor, rows: Tensor) -> None:
        """Copy the real frames of [B, T, D] into the block ``rows``."""

    @abstractmethod
    def write(self, rows: Tensor, w: Tensor, add: Tensor, frames: Tensor) -> None:
        """Write a block plus the values ``w * add`` to where it belongs in ``frames`` [B, T, D], and 0 to padding.

        ``frames`` is contiguous. The block, whose rows behind the frames are 0, is overwritten.
        """


class _Even(Group):
    """Utterances of equally many frames."""

    def values(self, rows: Tensor) -> Tensor:
        return rows[: self.count].view(len(self.sizes), self.sizes[0], -1)

    def spread(self, each: Tensor) -> Tensor:
        return each.unsqueeze(1)

    def sums(self, values: Tensor, w: Tensor | None = None) -> Tensor:
        return values.sum(1) if w is None else torch.bmm(w.transpose(1, 2), values).squeeze(1)

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def read(self, frames: Tensor, rows: Tensor) -> None:
        self.values(rows).copy_(frames[self.some, : self.sizes[0]])

    def write(self, rows: Tensor, w: Tensor, add: Tensor, frames: Tensor) -> None:
        out, length = frames[self.some], self.sizes[0]
        torch.addcmul(self.values(rows), w, add, out=out[:, :length])
        if length < out.size(1):
            out[:, length:] = 0


class _Uneven(Group):
    """Utterances of different numbers of frames.

    Indices, int64: ``frames`` [N] is the place of each frame among the n T of the padded utterances, ``owner`` [N] its
    utterance. Runs of at most `_RUN` frames begin at the frames ``begins``, each utterance at the run ``firsts`` [n].
    """

    def __init__(self, some: slice, sizes: Sequence[int], length: int) -> None:
        super().__init__(some, sizes)
        self.padded = len(sizes), length  # [n, T]
        own, numbers = np.array(sizes), np.arange(self.count)
        starts, runs = own.cumsum() - own, -(-own // _RUN)
        firsts = runs.cumsum() - runs
        frames = numbers + (np.arange(len(own)) * length - starts).repeat(own)
        begins = np.arange(runs.sum()) * _RUN + (starts - firsts * _RUN).repeat(runs)
        self.numbers, self.frames = torch.from_numpy(numbers), torch.from_numpy(frames)
        self.begins, self.firsts = torch.from_numpy(begins), torch.from_numpy(firsts)
        self.owner = torch.from_numpy(np.arange(len(own)).repeat(own))

    @property
    def height(self) -> int:
        return self.count // _STEP * _STEP + _STEP  # a row of 0 for padding

    def values(self, rows: Tensor) -> Tensor:
        return rows[: self.count]

    def spread(self, each: Tensor) -> Tensor:
        return each.index_select(0, self.owner)

    def sums(self, values: Tensor, w: Tensor | None = None) -> Tensor:
        w = None if w is None else w.squeeze(1)
        sums = embedding_bag(self.numbers, values, self.begins, mode="sum", per_sample_weights=w)
        return embedding_bag(self.numbers[: len(sums)], sums, self.firsts, mode="sum")

    def softmax(self, scores: Tensor) -> Tensor:
        if scores.size(1) == 1:
            padded = scores.new_full((prod(self.padded), 1), -torch.inf).index_copy_(0, self.frames, scores)
            return padded.view(self.padded).softmax(1).view(-1, 1).index_select(0, self.frames)
        w = torch.empty_like(scores)
        for own, out in zip(scores.split(self.sizes), w.split(self.sizes)):
            torch.softmax(own, 0, out=out)
        return w

    def read(self, frames: Tensor, rows: Tensor) -> None:
        torch.index_select(frames[self.some].flatten(0, 1), 0, self.frames, out=self.values(rows))

    def write(self, rows: Tensor, w: Tensor, add: Tensor, frames: Tensor) -> None:
        self.values(rows).addcmul_(w, add)
        index = torch.full((prod(self.padded),), self.count).index_copy_(0, self.frames, self.numbers)
        torch.index_select(rows, 0, index, out=frames[self.some].flatten(0, 1))


def usable(frames: Tensor) -> bool:
    """Whether to work in blocks: float32 or float64 on a CPU, outside of autocast, compilation and torch.func."""
    return (
        frames.device.type == "cpu"
        and frames.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def groups(lengths: Tensor, frames: Tensor) -> list[Group]:
    """Utterances of frames [B, T, D] in their order. Each group is one of them, or about `AT_ONCE` numbers."""
    sizes, (_, length, dim) = lengths.tolist(), frames.shape
    most = AT_ONCE * torch.get_num_threads() // dim
    return [
        _Even(some, sizes[some]) if len(set(sizes[some])) == 1 else _Uneven(some, sizes[some], length)
        for some in _slices(sizes, most)
    ]


def _slices(sizes: Sequence[int], most: int) -> Iterator[slice]:
    if len(set(sizes)) == 1:
        n, step = max(1, most // sizes[0]), _STEP // gcd(_STEP, sizes[0])
        # Frames of so many utterances are a multiple of _STEP rows, so need not be copied.
        whole = -(-n // step) * step
        n = whole if 2 * whole <= 3 * n else n
        yield from (slice(first, first + n) for first in range(0, len(sizes), n))
        return
    first = total = 0
    for number, size in enumerate(sizes):
        if number > first and total + size > most:
            yield slice(first, number)
            first, total = number, 0
        total += size
    yield slice(first, len(sizes))


def blocks(groups: Sequence[Group], frames: Tensor) -> Iterator[tuple[Group, Tensor]]:
    """Each group and its rows [R, D], from frames [B, T, D]. The next ones overwrite them."""
    room = frames.new_empty(max(group.height for group in groups), frames.size(2))
    for group in groups:
        own, rows = frames[group.some], room[: group.height]
        if group.count == group.height == own[..., 0].numel():
            rows = own.flatten(0, 1)
        else:
            group.read(frames, rows)
            rows[group.count :] = 0
        yield group, rows


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
    for some, others in zip(x.split(_DEPTH), y.split(_DEPTH)):
        total += product(some.t(), others.t())
