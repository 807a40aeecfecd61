"""Checked input: frames, lengths and code indices of a batch of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import InputError

FLAT_LIMIT = 2**62
"""Index tuples are flattened to one int64 as long as the ids stay below this."""


def is_integer(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def check_lengths(lengths: Tensor, batch: int, frames: int, device: torch.device) -> Tensor:
    """``lengths`` as int64 [B] on ``device``.

    Raises:
        InputError: not integers, not one per utterance, or one is outside [1, T].
    """
    lengths = torch.as_tensor(lengths, device=device)
    if not is_integer(lengths):
        raise InputError(f"Expected lengths as integers, but got {lengths.dtype}.")
    if lengths.shape != (batch,):
        raise InputError(f"Expected one length per utterance, [{batch}], but got {list(lengths.shape)}.")
    lengths = lengths.long()
    bad = (lengths < 1) | (lengths > frames)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise InputError(
            f"Expected lengths in [1, {frames}], but got {int(lengths[first])} at index {first}."
        )
    return lengths


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """True [B, T] on real frames, from checked lengths [B]."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def check_frames(frames: Tensor, dim: int | None = None) -> None:
    """Raise InputError unless ``frames`` is a floating [B, T, D] with B, T >= 1 and D = ``dim``."""
    if frames.ndim != 3 or 0 in frames.shape[:2] or dim not in (None, frames.shape[2]):
        raise InputError(f"Expected frames [B, T, {dim or 'D'}], but got {list(frames.shape)}.")
    if not frames.is_floating_point():
        raise InputError(f"Expected frames of a floating dtype, but got {frames.dtype}.")


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Codebook sizes as a tuple of ints; InputError for one outside [1, 2**31]."""
    checked = tuple(int(size) for size in sizes)
    for g, size in enumerate(checked):
        if not 1 <= size <= 2**31:
            raise InputError(f"Expected codebook sizes in [1, {2**31}], but got {size} for codebook {g}.")
    return checked


def check_code_shape(codes: Tensor) -> None:
    """Raise InputError unless ``codes`` is an integer [B, T, G] with B, T, G >= 1."""
    if codes.ndim != 3 or 0 in codes.shape:
        raise InputError(f"Expected codes [B, T, G], but got {list(codes.shape)}.")
    if not is_integer(codes):
        raise InputError(f"Expected codes of an integer dtype, but got {codes.dtype}.")


def _check_range(
    codes: Tensor, mask: Tensor, sizes: tuple[int, ...] | None
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Codes [B, T] of each codebook, with 0 on padding, and its highest index, plus 1."""
    planes = codes.permute(2, 0, 1).contiguous().long() * mask  # [G, B, T]
    flat = planes.flatten(1)
    low, high = torch.stack([flat.amin(1), flat.amax(1)]).tolist()
    if min(low) >= 0 and (sizes is None or all(h < size for h, size in zip(high, sizes))):
        return planes.unbind(), tuple(h + 1 for h in high)
    bad = planes < 0
    if sizes is not None:
        bad = bad | (planes >= torch.tensor(sizes, device=codes.device).view(-1, 1, 1))
    b, t, g = bad.permute(1, 2, 0).nonzero()[0].tolist()
    expected = f"[0, {sizes[g] - 1}]" if sizes is not None else "[0, 2**63)"
    raise InputError(
        f"Expected codes of codebook {g} in {expected}, but got {int(planes[g, b, t])}"
        f" at utterance {b}, frame {t}, codebook {g}."
    )


@dataclass(frozen=True)
class Batch:
    """Real frames of B utterances and the code indices that the frames were given.

    ``mask`` [B, T] bool, ``lengths`` [B] int64; ``codes[g]`` [B, T] int64 with 0 on padding, which are
    below ``extents[g]``.
    """

    lengths: Tensor
    mask: Tensor
    codes: tuple[Tensor, ...]
    extents: tuple[int, ...]

    @classmethod
    def checked(cls, codes: Tensor, lengths: Tensor, sizes: Sequence[int] | None = None) -> Batch:
        """Checks shapes, dtypes and ranges; codes beyond ``lengths`` are ignored.

        Args:
            codes: [B, T, G], any integer dtype.
            lengths: [B], number of real frames of each utterance, in [1, T].
            sizes: number of entries of each codebook; without it any index >= 0 is accepted.

        Raises:
            InputError: one line that names the first wrong value.
        """
        check_code_shape(codes)
        known = None if sizes is None else check_sizes(sizes)
        if known is not None and len(known) != codes.shape[2]:
            raise InputError(
                f"Expected codes of {len(known)} codebooks of sizes {list(known)},"
                f" but got {codes.shape[2]} in {list(codes.shape)}."
            )
        lengths = check_lengths(lengths, codes.shape[0], codes.shape[1], codes.device)
        mask = frame_mask(lengths, codes.shape[1])
        return cls(lengths, mask, *_check_range(codes, mask, known))

    @cached_property
    def entries(self) -> tuple[tuple[Tensor, int], ...]:
        """Per codebook an index [B, T] into a table [B, width], and the width, at most about max(4 T, 4096).

        Indices are the codes themselves or, where those are large, their ranks among the codes of the same
        utterance. Padding has an entry of its own.
        """
        frames = self.mask.shape[1]
        found = []
        for index, extent in zip(self.codes, self.extents):
            if extent > max(4 * frames, 4096):
                index, extent = ranks(index), frames
            found.append((index.masked_fill(~self.mask, extent), extent + 1))
        return tuple(found)

    @cached_property
    def tuples(self) -> Tensor:
        """One id [B, T] int64 per index tuple: equal in an utterance if and only if the tuples are."""
        return tuple_ids(self.entries)


def tuple_ids(entries: Sequence[tuple[Tensor, int]]) -> Tensor:
    """One id [B, T] int64 per tuple of indices, from an index [B, T] and its table's width per codebook."""
    ids, bound = entries[0]
    for index, width in entries[1:]:
        if bound * width > FLAT_LIMIT:
            ids, bound = ranks(ids), ids.shape[1]
        ids, bound = ids * width + index, bound * width
    return ids


def ranks(ids: Tensor) -> Tensor:
    """Replaces each id [B, T] by its place among the distinct ids of its row, so in [0, T)."""
    ordered, order = ids.sort(dim=1)
    rank = ordered.new_zeros(ordered.shape)
    torch.cumsum(ordered[:, 1:] != ordered[:, :-1], dim=1, out=rank[:, 1:])
    return torch.empty_like(rank).scatter_(1, order, rank)
