"""A point of the product as a module: weights, moments and map, with the training statistics as buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .batch import Batch, check_frames, check_lengths, frame_mask
from .counts import Counts
from .held import Held
from .maps import LinearMap
from .registry import Method, Weights
from .weighted import pool


def without_codes(lengths: Tensor, frames: int) -> Batch:
    """A batch for weights that do not look at codes, from checked lengths [B]."""
    return Batch(lengths, frame_mask(lengths, frames), (), ())


def code_weights(
    known: Method,
    codes: Tensor,
    lengths: Tensor,
    counts: Counts | None,
    sizes: Sequence[int] | None,
    values: Mapping[str, Any],
) -> Tensor:
    """Weights [B, T] of codes [B, T, G]; ``values`` of all options of the weights."""
    if counts is None and known.needs_counts:
        raise InputError(
            f"{known.name} needs counts of the training set's codes, but has none:"
            f" give counts=, made by counts(codes, lengths, sizes)."
        )
    if counts is not None and sizes is not None and counts.sizes != tuple(sizes):
        raise InputError(
            f"Expected counts of codebooks of sizes {list(sizes)}, but got counts of {list(counts.sizes)}."
        )
    if counts is not None:
        counts, sizes = counts.to(codes.device), counts.sizes
    batch = Batch.checked(codes, lengths, sizes)
    statistics = {"counts": counts} if known.needs_counts else {}
    return _weights(known).implementation(batch, **statistics, **values)


def _weights(known: Method) -> Weights:
    if known.weights is None:
        raise InputError(f"{known.name} is learned with the head; it has no weights of its own.")
    return known.weights


def moments(known: Method, frames: Tensor, w: Tensor) -> Tensor:
    """[B, E] of frames [B, T, D] under weights [B, T]: their weighted mean or, with +std, mean and deviation."""
    return pool(frames, w) if known.moments is None else known.moments(frames, w)


class Point(Held):
    """``(frames, lengths, codes=None) -> [B, output_dim]``; see `build`."""

    tuples: Tensor
    occurrences: Tensor
    sizes: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, known: Method, dim: int, options: Mapping[str, Any]) -> None:
        empty = torch.empty(0, dtype=torch.int64)
        held = {"tuples": empty.view(0, 0), "occurrences": empty, "sizes": empty.clone()}
        fitted = {"mean": torch.empty(0), "factor": torch.empty(0, 0)}
        super().__init__(**(held if known.needs_counts else {}), **(fitted if known.map else {}))
        self.method = known
        self.dim, self.output_dim = dim, known.output_dim(dim)
        self.options = {o.name: options[o.name] for o in _weights(known).options}
        self._counts: Counts | None = None

    def set_statistics(self, *given: Counts | LinearMap) -> None:
        """Takes the training set's counts, its map, or both.

        Raises:
            InputError: a map of another pooling or of another dimension.
        """
        for statistics in given:
            if isinstance(statistics, Counts):
                self.hold(**statistics.tensors())
                continue
            if statistics.name != self.method.spec:
                raise InputError(
                    f"Expected statistics of {self.method.spec}, but got those of {statistics.name}."
                )
            self._check_dim(statistics.mean)
            self.hold(mean=statistics.mean, factor=statistics.factor)

    def _check_dim(self, mean: Tensor) -> None:
        if mean.shape != (self.output_dim,):
            raise InputError(
                f"Expected {self.method.name} statistics of dimension {self.output_dim}, but got {len(mean)}."
            )

    @property
    def counts(self) -> Counts | None:
        """The training set's counts, if there are any."""
        if not self.method.needs_counts or not self.tuples.numel():
            return None
        # Loading and moving replace the buffers. Until then the tables that Counts keeps are valid.
        if self._counts is None or self._counts.tuples is not self.tuples:
            origin = f"Statistics of {self.method.name}"
            self._counts = Counts.from_tensors(self.tuples, self.occurrences, self.sizes, origin)
        return self._counts

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, E] of frames [B, T, D] with lengths [B] and, where the pooling needs them, codes [B, T, G]."""
        if self.method.map is not None:
            self._check_fitted()
        check_frames(frames, self.dim)
        vectors = moments(self.method, frames, self._frame_weights(frames, lengths, codes))
        if self.method.map is None:
            return vectors
        return LinearMap(self.method.spec, self.mean, self.factor)(vectors)

    def _check_fitted(self) -> None:
        if not self.mean.numel():
            raise InputError(
                f"{self.method.name} needs statistics of the training set's {self.method.unmapped.name} vectors,"
                f" but has none: give build() statistics=fit({self.method.name!r}, vectors)."
            )
        self._check_dim(self.mean)  # a state dict may have brought others

    def _frame_weights(self, frames: Tensor, lengths: Tensor, codes: Tensor | None) -> Tensor:
        if not self.method.needs_codes:
            lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
            batch = without_codes(lengths, frames.shape[1])
            return _weights(self.method).implementation(batch, **self.options)
        if codes is None:
            raise InputError(f"{self.method.name} needs codes [B, T, G], but got none.")
        if codes.shape[:2] != frames.shape[:2]:
            raise InputError(
                f"Expected codes [B, T, G] with [B, T] = {list(frames.shape[:2])} as in frames,"
                f" but got {list(codes.shape)}."
            )
        return code_weights(self.method, codes.to(frames.device), lengths, self.counts, None, self.options)

    def extra_repr(self) -> str:
        return f"{self.method.name}, dim={self.dim}"
