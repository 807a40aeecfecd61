"""Training statistics of code indices: how often each one, and each tuple of them, occurs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from .batch import FLAT_LIMIT, Batch, check_sizes
from .files import read_statistics, write_statistics

STORED_LIMIT = 2**24
"""Entries of a codebook that a file may declare: a table of them is made before any of its bytes are there."""
DENSE_LIMIT = 2**22
"""Tables of up to so many entries are looked up directly, larger ones by bisection."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Occurrences of index tuples over frames. All other counts are computed from them.

    ``tuples`` [N, G] int64: the distinct index tuples that occur, in lexicographic order; ``occurrences`` [N]
    int64; ``sizes``: number of entries of each of the G codebooks. Nothing is as large as the joint
    table ``V ** G`` unless all of it occurs. Made by `counts`; ``+`` adds (so does ``sum``).
    """

    tuples: Tensor
    occurrences: Tensor
    sizes: tuple[int, ...]

    @cached_property
    def frames(self) -> int:
        """Number of frames that were counted."""
        return int(self.occurrences.sum())

    def of_entries(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """``N_g(q)`` int64 for codes int64 of any shape of each codebook g, which must be inside it."""
        return [table(index) for table, index in zip(self._marginals, codes, strict=True)]

    def of_tuples(self, codes: Sequence[Tensor]) -> Tensor:
        """How often each tuple of codes occurs, int64; codes as for `of_entries`."""
        return self._joint(_flat(codes, self.sizes, self._stored_beginnings))

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.tuples.unbind(1)

    @cached_property
    def _stored_beginnings(self) -> list[Tensor | None]:
        return _beginnings(self._columns, self.sizes)

    @cached_property
    def _marginals(self) -> list[_Table]:
        return [_Table(index, self.occurrences, size) for index, size in zip(self._columns, self.sizes)]

    @cached_property
    def _joint(self) -> _Table:
        ids = _flat(self._columns, self.sizes, self._stored_beginnings)
        return _Table(ids, self.occurrences, math.prod(self.sizes))

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if other.sizes != self.sizes:
            raise InputError(
                f"Expected counts of codebooks of the same sizes, but got {list(self.sizes)}"
                f" and {list(other.sizes)}."
            )
        other = other.to(self.tuples.device)
        tuples = torch.cat([self.tuples, other.tuples])
        return _distinct(tuples, torch.cat([self.occurrences, other.occurrences]), self.sizes)

    def __radd__(self, other: int) -> Counts:
        return self if other == 0 else NotImplemented

    def to(self, device: torch.device | str) -> Counts:
        """The same counts on ``device``."""
        if self.tuples.device == torch.device(device):
            return self
        return Counts(self.tuples.to(device), self.occurrences.to(device), self.sizes)

    def all_reduce(self) -> Counts:
        """Sum over the processes of ``torch.distributed``, the same on each; itself where there is one."""
        if not (dist.is_available() and dist.is_initialized()):
            return self
        mine = torch.cat([self.tuples, self.occurrences.unsqueeze(1)], dim=1).cpu()  # [N, G + 1]
        rows: list[Tensor] = [mine] * dist.get_world_size()
        dist.all_gather_object(rows, mine)  # NCCL takes no tensors of the CPU, but objects
        everyone = torch.cat(rows).to(self.tuples.device)
        return _distinct(everyone[:, :-1], everyone[:, -1], self.sizes)

    def save(self, path: str | Path, identity: Mapping[str, object]) -> None:
        """Writes a safetensors file, with ``identity`` (upstream, checkpoint hash, corpus) as metadata.

        The file appears under ``path`` only when it is complete.
        """
        write_statistics(path, "counts", self.tensors(), identity)

    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` takes, by its names."""
        sizes = torch.tensor(self.sizes, dtype=torch.int64)
        return {"tuples": self.tuples, "occurrences": self.occurrences, "sizes": sizes}

    @classmethod
    def load(
        cls, path: str | Path, expect: Mapping[str, object] | None = None, kind: str = "counts"
    ) -> Counts:
        """Reads what `save` wrote.

        Args:
            path: the file.
            expect: what its identity must say; the key ``sizes`` stands for the codebook sizes.
            kind: of the file; a pooling with a map keeps its counts in the file of the map.

        Raises:
            InputError: no such file, not a file of counts, or of another identity (both are named).
        """
        tensors = read_statistics(path, kind, ("tuples", "occurrences", "sizes"), expect)
        return cls.from_tensors(tensors["tuples"], tensors["occurrences"], tensors["sizes"], str(path))

    @classmethod
    def from_tensors(cls, tuples: Tensor, occurrences: Tensor, sizes: Tensor, origin: str) -> Counts:
        """Counts from stored tensors; InputError, which names ``origin``, where they do not fit together."""
        whole = sizes.dtype == torch.int64 and sizes.ndim == 1 and len(sizes) > 0
        codebooks = tuple(sizes.tolist()) if whole else ()
        fits = (
            whole
            and max(codebooks) <= STORED_LIMIT
            and tuples.dtype == occurrences.dtype == torch.int64
            and tuples.shape == (len(occurrences), len(codebooks))
            and occurrences.ndim == 1
            and bool((occurrences > 0).all() and (tuples >= 0).all())
            and bool((tuples < torch.tensor(codebooks, device=tuples.device)).all())
        )
        if not fits:
            raise InputError(f"{origin}: counts of codes that do not fit codebooks of {list(codebooks)}.")
        return cls(tuples, occurrences, check_sizes(codebooks))


def counts(codes: Tensor, lengths: Tensor, sizes: Sequence[int]) -> Counts:
    """Counts the index tuples of the real frames of a batch.

    Args:
        codes: [B, T, G], any integer dtype; values beyond ``lengths`` are ignored.
        lengths: [B], in [1, T].
        sizes: number of entries of each of the G codebooks.

    Raises:
        InputError: a wrong shape or dtype, a length outside [1, T], a code outside its codebook.

    Examples:
        >>> import torch
        >>> seen = counts(torch.tensor([[[0, 1], [0, 1], [2, 1]]]), lengths=torch.tensor([3]), sizes=(3, 2))
        >>> seen.tuples.tolist(), seen.occurrences.tolist(), seen.frames
        ([[0, 1], [2, 1]], [2, 1], 3)
    """
    batch = Batch.checked(codes, lengths, sizes)
    tuples = torch.stack([codes[batch.mask] for codes in batch.codes], dim=1)  # [frames, G]
    return _distinct(tuples, torch.ones_like(tuples[:, 0]), check_sizes(sizes))


class _Table:
    """Sums of ``values`` [N] by key [N], for looking up; keys are below ``size``."""

    def __init__(self, keys: Tensor, values: Tensor, size: int) -> None:
        self.keys: Tensor | None = None
        if size <= DENSE_LIMIT:
            self.sums = values.new_zeros(size).index_add_(0, keys, values)
        else:
            self.keys, inverse = keys.unique(return_inverse=True)
            self.sums = values.new_zeros(len(self.keys)).index_add_(0, inverse, values)

    def __call__(self, query: Tensor) -> Tensor:
        if self.keys is None:
            return self.sums.index_select(0, query.flatten()).view(query.shape)
        place = _places(self.keys, query)
        return self.sums[place.clamp_max(len(self.keys) - 1)].masked_fill(place == len(self.keys), 0)


def _places(keys: Tensor, query: Tensor) -> Tensor:
    """Place of each query among sorted distinct keys, and the number of keys where it is none of them."""
    place = torch.searchsorted(keys, query.contiguous())
    known = keys[place.clamp_max(len(keys) - 1)] == query
    return place.masked_fill(~known, len(keys))


def _beginnings(columns: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor | None]:
    """Per codebook after the first the known tuples' beginnings, where their row-major ids would overflow."""
    found: list[Tensor | None] = []
    ids, bound = columns[0], sizes[0]
    for index, size in zip(columns[1:], sizes[1:]):
        keys = ids.unique() if bound * size > FLAT_LIMIT else None
        if keys is not None:
            ids, bound = _places(keys, ids), len(keys) + 1
        found.append(keys)
        ids, bound = ids * size + index, bound * size
    return found


def _flat(codes: Sequence[Tensor], sizes: Sequence[int], beginnings: Sequence[Tensor | None]) -> Tensor:
    """Ids of tuples in lexicographic order, from codes of any shape per codebook: row-major as far as it fits.

    Where it does not, a beginning is replaced by its place among the known ones; all unknown ones get one id.
    """
    ids = codes[0]
    for index, size, keys in zip(codes[1:], sizes[1:], beginnings):
        ids = (ids if keys is None else _places(keys, ids)) * size + index
    return ids


def _distinct(tuples: Tensor, occurrences: Tensor, sizes: tuple[int, ...]) -> Counts:
    """Counts from tuples [N, G] that may repeat."""
    columns = tuples.unbind(1)
    keys, inverse = _flat(columns, sizes, _beginnings(columns, sizes)).unique(return_inverse=True)
    total = occurrences.new_zeros(len(keys)).index_add_(0, inverse, occurrences)
    rows = tuples.new_empty(len(keys), tuples.shape[1]).index_copy_(0, inverse, tuples)
    return Counts(rows, total, sizes)
