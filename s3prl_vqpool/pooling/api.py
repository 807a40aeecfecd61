"""The two ways in: weights of frames as a function, any pooling as a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling.batch import Batch, check_code_shape, check_frames, check_lengths, frame_mask
from s3prl_vqpool.pooling.counts import Counts
from s3prl_vqpool.pooling.held import Held
from s3prl_vqpool.pooling.linear import LinearMap
from s3prl_vqpool.pooling.registry import Method, method, methods
from s3prl_vqpool.pooling.weighted import pool


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
        name: a pooling of kind "weights": AP, VQ-Squash-AND, VQ-LP, ...
        codes: [B, T, G], any integer dtype: index of each frame in each of the G codebooks. What it holds
            beyond ``lengths`` does not matter. AP looks at its shape only.
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
    """
    known = method(name)
    if known.kind != "weights":
        offered = ", ".join(n for n in methods() if method(n).kind == "weights")
        raise InputError(
            f"{known.name} has no weight per frame; use build({known.name!r}, dim). With weights: {offered}."
        )
    values = known.with_defaults(options)
    if not known.needs_codes:
        check_code_shape(codes)
        lengths = check_lengths(lengths, codes.shape[0], codes.shape[1], codes.device)
        return known.implementation(_without_codes(lengths, codes.shape[1]), **values)
    if counts is None and known.needs_statistics:
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
    statistics = {"counts": counts} if known.needs_statistics else {}
    return known.implementation(batch, **statistics, **values)


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
        name: any of :func:`methods`.
        dim: D, size of a frame.
        counts: training statistics of codes, for VQ-SIF, VQ-GP and VQ-BP.
        statistics: what ``Whitening.fit`` or ``SoftDecay.fit`` gave.
        options: those of the pooling (``method(name).options``), such as VQ-SIF's ``a`` or VAP's ``hidden``.

    Raises:
        InputError: an unknown name, statistics or an option that this pooling does not take, or a value that the
            option does not take.
    """
    known = method(name)
    if dim < 1:
        raise InputError(f"Expected dim >= 1, but got {dim}.")
    values = known.with_defaults(options)
    if counts is not None and not (known.kind == "weights" and known.needs_statistics):
        raise InputError(f"{known.name} takes no counts: leave them out.")
    if statistics is not None and known.kind != "vector":
        raise InputError(f"{known.name} takes no statistics of vectors: leave them out.")
    if known.kind == "weights":
        return WeightPooling(known, dim, counts, values)
    if known.kind == "vector":
        values["statistics"] = statistics
    return known.implementation(dim, **values)


def _without_codes(lengths: Tensor, frames: int) -> Batch:
    return Batch(lengths, frame_mask(lengths, frames), (), ())


class WeightPooling(Held):
    """``pool(frames, weights(name, codes, lengths))``, with the training counts as buffers."""

    tuples: Tensor
    occurrences: Tensor
    sizes: Tensor

    def __init__(self, known: Method, dim: int, counts: Counts | None, options: dict[str, Any]) -> None:
        empty = torch.empty(0, dtype=torch.int64)
        held = {"tuples": empty.view(0, 0), "occurrences": empty, "sizes": empty.clone()}
        super().__init__(**(held if known.needs_statistics else {}))
        self.method = known
        self.dim = self.output_dim = dim
        self.options = options
        self._counts: Counts | None = None
        if counts is not None:
            self.set_statistics(counts)

    def set_statistics(self, statistics: Counts) -> None:
        """Takes the training set's counts."""
        sizes = torch.tensor(statistics.sizes, dtype=torch.int64)
        self.hold(tuples=statistics.tuples, occurrences=statistics.occurrences, sizes=sizes)

    @property
    def counts(self) -> Counts | None:
        """The training set's counts, if there are any."""
        if not self.method.needs_statistics or not self.has_statistics:
            return None
        # Loading and moving replace the buffers; until then the tables that Counts keeps stay good.
        if self._counts is None or self._counts.tuples is not self.tuples:
            origin = f"Statistics of {self.method.name}"
            self._counts = Counts.from_tensors(self.tuples, self.occurrences, self.sizes, origin)
        return self._counts

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, D] of frames [B, T, D] with lengths [B] and codes [B, T, G]."""
        check_frames(frames, self.dim)
        if not self.method.needs_codes:
            lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
            batch = _without_codes(lengths, frames.shape[1])
            return pool(frames, self.method.implementation(batch, **self.options))
        if codes is None:
            raise InputError(f"{self.method.name} needs codes [B, T, G], but got none.")
        if codes.shape[:2] != frames.shape[:2]:
            raise InputError(
                f"Expected codes [B, T, G] with [B, T] = {list(frames.shape[:2])} as in frames,"
                f" but got {list(codes.shape)}."
            )
        codes = codes.to(frames.device)
        return pool(frames, weights(self.method.name, codes, lengths, counts=self.counts, **self.options))

    def extra_repr(self) -> str:
        return f"{self.method.name}, dim={self.dim}"
