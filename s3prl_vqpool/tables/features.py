"""One vector for each utterance, from frames and codes that are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .. import pooling
from ..errors import InputError
from ..pooling import Counts

_BATCH = 32


@dataclass(frozen=True, eq=False)
class Features:
    """N utterances.

    Attributes:
        lengths: int64 [N], frames of each.
        sizes: number of entries of each of the G codebooks.
        codes: row -> integer [T, G].
        frames: row -> floating [T, D]; None where only vectors are stored.
        stored: pooling -> floating [N, layers, D], for poolings that weigh frames without training statistics.
        kept: int64 [N], frames of each that S3PRL's Featurizer keeps: those that `mean` counts.
    """

    lengths: Tensor
    sizes: tuple[int, ...]
    codes: Callable[[int], Tensor]
    frames: Callable[[int], Tensor] | None
    stored: Callable[[str], Tensor]
    kept: Tensor

    def pooled(self, name: str, counts: Counts | None = None, **options: Any) -> Tensor:
        """Vectors [N, E], float32, of a pooling that has no map and is not learned, with its options.

        Without frames they are the mean of the stored vectors over layers, which is the same: a weighted sum
        of the layers' mean is the mean of the layers' weighted sums.
        """
        if self.frames is None and options:
            raise InputError(f"{name}: an option needs frames: extract with --frames, or leave --option out.")
        if self.frames is None:
            return self.stored(name).float().mean(dim=1)
        known = pooling.method(name)
        module = pooling.build(name, self.dim, counts=counts, **options)
        vectors = torch.empty(len(self.lengths), known.output_dim(self.dim))
        with torch.no_grad():
            for rows, lengths, codes in self._batches(torch.arange(len(self.lengths))):
                counted = torch.minimum(lengths, self.kept[rows]) if known.all_frames else lengths
                vectors[rows] = module(self._padded_frames(rows, lengths), counted, codes)
        return vectors

    @cached_property
    def dim(self) -> int:
        """D, size of a frame."""
        return self._frames_of(0).shape[1]

    def counts(self, rows: Tensor) -> Counts:
        """Counts of the codes of ``rows`` alone."""
        parts = (pooling.counts(codes, lengths, self.sizes) for _, lengths, codes in self._batches(rows))
        return sum(parts)  # type: ignore[return-value]

    def padded(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(rows, lengths, frames float32 [B, T, D]) of ``rows``, shortest first, B at most 32.

        Raises:
            InputError: only vectors are stored.
        """
        for batch, lengths in self._sorted(rows):
            yield batch, lengths, self._padded_frames(batch, lengths)

    def _batches(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(rows, lengths, codes [B, T, G]) of ``rows``, shortest first."""
        for batch, lengths in self._sorted(rows):
            yield batch, lengths, _padded([self.codes(row) for row in batch.tolist()], lengths)

    def _padded_frames(self, rows: Tensor, lengths: Tensor) -> Tensor:
        return _padded([self._frames_of(row) for row in rows.tolist()], lengths)

    def _frames_of(self, row: int) -> Tensor:
        if self.frames is None:
            raise InputError("Expected frames, but only vectors are stored: extract with --frames.")
        return self.frames(row).float()

    def _sorted(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in rows[self.lengths[rows].argsort(stable=True)].split(_BATCH):
            yield batch, self.lengths[batch]


def _padded(sequences: list[Tensor], lengths: Tensor) -> Tensor:
    return pad_sequence([x[:n] for x, n in zip(sequences, lengths.tolist())], batch_first=True)
