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

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling.batch import FLAT_LIMIT, Batch, check_sizes
from s3prl_vqpool.pooling.files import read_statistics, write_statistics

DENSE_LIMIT = 2**22
"""Tables of up to so many entries are looked up directly, larger ones by bisection."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Occurrences of index tuples over frames; everything else follows from them.

    ``tuples`` [N, G] int64: the distinct index tuples that occur, in lexicographic order; ``occurrences`` [N]
    int64; ``sizes``: number of entries of each of the G codebooks. Nothing is as large as the joint
    table ``V ** G`` unless all of it occurs. Made by :func:`counts`; ``+`` adds (so does ``sum``).
    """

    tuples: Tensor
    occurrences: Tensor
    sizes: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Number of frames that were counted."""
        return int(self.occurrences.sum())

    def of_codebook(self, g: int) -> Tensor:
        """``N_g(v)`` int64 [V_g]: how often each index of codebook g occurs."""
        table = self.occurrences.new_zeros(self.sizes[g])
        return table.index_add_(0, self.tuples[:, g], self.occurrences)

    def of_entries(self, codes: Tensor) -> Tensor:
        """``N_g(q)`` int64 [..., G] of codes [..., G] int64 inside the codebooks."""
        found = [lookup(codes[..., g].contiguous()) for g, lookup in enumerate(self._marginals)]
        return torch.stack(found, dim=-1)

    def of_tuples(self, codes: Tensor) -> Tensor:
        """How often each tuple of codes [..., G] int64 inside the codebooks occurs, int64 [...]."""
        if math.prod(self.sizes) <= DENSE_LIMIT:
            return self._joint(_flat(codes, self.sizes))
        return self._joint(_flat_in(codes, self.tuples, self.sizes)[0])

    @cached_property
    def _marginals(self) -> list[_Table]:
        return [_Table(self.tuples[:, g], self.occurrences, size) for g, size in enumerate(self.sizes)]

    @cached_property
    def _joint(self) -> _Table:
        size = math.prod(self.sizes)
        if size <= DENSE_LIMIT:
            return _Table(_flat(self.tuples, self.sizes), self.occurrences, size)
        return _Table(_flat_in(self.tuples, self.tuples, self.sizes)[1], self.occurrences, size)

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
        mine = torch.cat([self.tuples, self.occurrences.unsqueeze(1)], dim=1)  # [N, G + 1]
        lengths = [mine.new_zeros(1) for _ in range(dist.get_world_size())]
        dist.all_gather(lengths, mine.new_tensor([len(mine)]))
        rows = [int(n) for n in lengths]
        padded = mine.new_zeros(max(rows), mine.shape[1])
        padded[: len(mine)] = mine
        gathered = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(gathered, padded)
        all_rows = torch.cat([table[:n] for table, n in zip(gathered, rows)])
        return _distinct(all_rows[:, :-1], all_rows[:, -1], self.sizes)

    def save(self, path: str | Path, identity: Mapping[str, object]) -> None:
        """Writes a safetensors file; ``identity`` (upstream, checkpoint hash, corpus, ...) goes into its metadata.

        The file appears under ``path`` only when it is complete.
        """
        tensors = {
            "tuples": self.tuples,
            "occurrences": self.occurrences,
            "sizes": torch.tensor(self.sizes, dtype=torch.int64),
        }
        write_statistics(path, "counts", tensors, identity)

    @classmethod
    def load(cls, path: str | Path, expect: Mapping[str, object] | None = None) -> Counts:
        """Reads what :meth:`save` wrote.

        Args:
            path: the file.
            expect: what its identity must say; the key ``sizes`` stands for the codebook sizes.

        Raises:
            InputError: no such file, not a file of counts, or of another identity (both are named).
        """
        tensors = read_statistics(path, "counts", ("tuples", "occurrences", "sizes"), expect)
        return cls.from_tensors(tensors["tuples"], tensors["occurrences"], tensors["sizes"], str(path))

    @classmethod
    def from_tensors(cls, tuples: Tensor, occurrences: Tensor, sizes: Tensor, origin: str) -> Counts:
        """Counts from stored tensors; InputError, which names ``origin``, where they do not fit together."""
        codebooks = tuple(int(size) for size in sizes.flatten().tolist())
        fits = (
            tuples.dtype == occurrences.dtype == torch.int64
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
        codes: [B, T, G], any integer dtype; what it holds beyond ``lengths`` does not matter.
        lengths: [B], in [1, T].
        sizes: number of entries of each of the G codebooks.

    Raises:
        InputError: a wrong shape or dtype, a length outside [1, T], a code outside its codebook.
    """
    batch = Batch.checked(codes, lengths, sizes)
    tuples = batch.codes[batch.mask]  # [frames, G]
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
            return self.sums[query]
        place = _places(self.keys, query)
        return self.sums[place.clamp_max(len(self.keys) - 1)].masked_fill(place == len(self.keys), 0)


def _places(keys: Tensor, query: Tensor) -> Tensor:
    """Place of each query among sorted distinct keys, and the number of keys where it is none of them."""
    place = torch.searchsorted(keys, query)
    known = keys[place.clamp_max(len(keys) - 1)] == query
    return place.masked_fill(~known, len(keys))


def _flat(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Row-major id [...] of tuples [..., G]."""
    flat = codes[..., 0]
    for g, size in enumerate(sizes[1:], start=1):
        flat = flat * size + codes[..., g]
    return flat


def _flat_in(codes: Tensor, tuples: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Ids [...] of tuples [..., G] and [N] of the known ``tuples`` [N, G], in the same, lexicographic, order.

    Where row-major ids would overflow, the tuples' beginnings are replaced by their places among the known
    ones; all unknown beginnings get one id of their own.
    """
    ids, known, bound = codes[..., 0].contiguous(), tuples[:, 0], sizes[0]
    for g, size in enumerate(sizes[1:], start=1):
        if bound * size > FLAT_LIMIT:
            keys, known = known.unique(return_inverse=True)
            ids, bound = _places(keys, ids), len(keys) + 1
        ids, known, bound = ids * size + codes[..., g], known * size + tuples[:, g], bound * size
    return ids, known


def _distinct(tuples: Tensor, occurrences: Tensor, sizes: tuple[int, ...]) -> Counts:
    """Counts from tuples [N, G] that may repeat."""
    flat = _flat_in(tuples, tuples, sizes)[1]
    keys, inverse = flat.unique(return_inverse=True)
    total = occurrences.new_zeros(len(keys)).index_add_(0, inverse, occurrences)
    rows = tuples.new_empty(len(keys), tuples.shape[1]).index_copy_(0, inverse, tuples)
    return Counts(rows, total, sizes)
