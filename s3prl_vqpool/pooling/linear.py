"""Linear maps of the AP vector, fitted on the training set's AP vectors: Whitening and SoftDecay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling.batch import check_frames, check_lengths, frame_mask
from s3prl_vqpool.pooling.files import read_statistics, write_statistics
from s3prl_vqpool.pooling.held import Held
from s3prl_vqpool.pooling.registry import register
from s3prl_vqpool.pooling.weighted import pool, uniform

_PAPER = "arXiv 2304.03940, Table 1"


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``(x - mean) @ factor``: mean [D] and factor [D, D], float32, of the pooling ``name``."""

    name: str
    mean: Tensor
    factor: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Maps vectors [..., D]."""
        return (vectors - self.mean.to(vectors.dtype)) @ self.factor.to(vectors.dtype)

    def save(self, path: str | Path, identity: Mapping[str, object]) -> None:
        """Writes a safetensors file with ``identity`` (upstream, corpus); it appears only when complete."""
        write_statistics(path, self.name, {"mean": self.mean, "factor": self.factor}, identity)

    @classmethod
    def load(cls, name: str, path: str | Path, expect: Mapping[str, object] | None = None) -> LinearMap:
        """Reads what :meth:`save` wrote; InputError if it is another pooling's or not as ``expect`` says."""
        tensors = read_statistics(path, name, ("mean", "factor"), expect)
        mean, factor = tensors["mean"], tensors["factor"]
        if mean.ndim != 1 or factor.shape != (len(mean), len(mean)):
            raise InputError(
                f"{path}: expected mean [D] and factor [D, D],"
                f" but got {list(mean.shape)} and {list(factor.shape)}."
            )
        return cls(name, mean, factor)


class _LinearPooling(Held):
    name: ClassVar[str]
    mean: Tensor
    factor: Tensor

    def __init__(self, dim: int, statistics: LinearMap | None = None) -> None:
        super().__init__(mean=torch.empty(0), factor=torch.empty(0, 0))
        self.dim = self.output_dim = dim
        if statistics is not None:
            self.set_statistics(statistics)

    def set_statistics(self, statistics: LinearMap) -> None:
        """Takes what ``fit`` gave; InputError if it is another pooling's or of another dimension."""
        if statistics.name != self.name:
            raise InputError(f"Expected statistics of {self.name}, but got those of {statistics.name}.")
        self._check_dim(statistics.mean)
        self.hold(mean=statistics.mean, factor=statistics.factor)

    def _check_dim(self, mean: Tensor) -> None:
        if mean.shape != (self.dim,):
            raise InputError(f"Expected {self.name} statistics of dimension {self.dim}, but got {len(mean)}.")

    def forward(self, frames: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """[B, D] of frames [B, T, D] with lengths [B]; codes are not looked at."""
        if not self.has_statistics:
            raise InputError(
                f"{self.name} needs statistics of the training set's AP vectors, but has none:"
                f" give build() statistics={type(self).__name__}.fit(vectors)."
            )
        self._check_dim(self.mean)  # a state dict may have brought others
        check_frames(frames, self.dim)
        lengths = check_lengths(lengths, frames.shape[0], frames.shape[1], frames.device)
        average = pool(frames, uniform(frame_mask(lengths, frames.shape[1])))
        return LinearMap(self.name, self.mean, self.factor)(average)


def _checked(vectors: Tensor) -> Tensor:
    """``vectors`` [N, D] as float64."""
    if vectors.ndim != 2 or 0 in vectors.shape or not vectors.is_floating_point():
        raise InputError(
            f"Expected AP vectors [N, D] of a floating dtype, but got {list(vectors.shape)} {vectors.dtype}."
        )
    if not vectors.isfinite().all():
        row = int((~vectors.isfinite()).any(dim=1).nonzero()[0])
        raise InputError(f"Expected finite AP vectors, but the one at index {row} is not.")
    return vectors.detach().double()


def _decomposed(vectors: Tensor, origin: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Singular values [n] and right singular vectors [D, n] of ``vectors - origin`` [N, D] that are not 0."""
    _, values, right = torch.linalg.svd(vectors - origin, full_matrices=False)
    # Rounding each number to float32 moves no singular value by more than this, however many vectors there are.
    kept = values > torch.finfo(torch.float32).eps * vectors.norm()
    return values[kept], right[kept].T


@register(
    "Whitening",
    family="linear map",
    kind="vector",
    source=_PAPER,
    needs_statistics=True,
)
class Whitening(_LinearPooling):
    """``(x - mean) @ U @ diag(S ** -0.5)`` of the AP vector x.

    ``U, S``: SVD of the scatter matrix ``(E - mean).T @ (E - mean)`` of the training set's AP vectors E, not
    divided by their number. The unsupervised benchmark L2-normalises the result; this does not.
    The published code also fits once and then maps one utterance at a time. Directions in which
    the training set does not vary are mapped to 0, where the published code divides by (almost) 0.
    Source: arXiv 2304.03940, Table 1.
    """

    name = "Whitening"

    @staticmethod
    def fit(vectors: Tensor) -> LinearMap:
        """Statistics of AP vectors [N, D], floating; of each column of U the largest entry is positive.

        Raises:
            InputError: a wrong shape, or a vector that is not finite.
        """
        vectors = _checked(vectors)
        mean = vectors.mean(dim=0)
        values, right = _decomposed(vectors, mean)
        right = right * right.gather(0, right.abs().argmax(dim=0, keepdim=True)).sign()
        factor = vectors.new_zeros(len(mean), len(mean))
        factor[:, : len(values)] = right / values
        return LinearMap("Whitening", mean.float(), factor.float())


@register(
    "SoftDecay",
    family="linear map",
    kind="vector",
    source=_PAPER,
    needs_statistics=True,
)
class SoftDecay(_LinearPooling):
    """``x @ V @ diag(s' / s) @ V.T`` of the AP vector x: SoftDecay's flatter spectrum, for a single vector.

    ``U diag(s) V.T``: SVD of the training set's AP vectors X; ``s' = -log(1 - a (s + a) + 1e-7) / a`` with
    a = -0.6, rescaled so that ``max(s') = max(s)``. On X itself this is ``U diag(s') V.T``, the published
    transform of a matrix. The published benchmark applies that transform to one utterance at a time: a
    matrix of one row has one singular value, which rescaling restores, so it returns AP (hence its rows in
    Table 1, which are AP's up to chance). Here it is fitted on the training set instead, and differs from AP.
    Directions in which X has no extent are mapped to 0. Source: arXiv 2304.03940, Table 1.
    """

    name = "SoftDecay"

    @staticmethod
    def fit(vectors: Tensor) -> LinearMap:
        """Statistics of AP vectors [N, D], floating.

        Raises:
            InputError: a wrong shape, or a vector that is not finite.
        """
        values, right = _decomposed(_checked(vectors))
        alpha = -0.6
        softened = -torch.log(1 - alpha * (values + alpha) + 1e-7) / alpha
        if len(values):
            softened = softened * values.max() / softened.max()
        factor = (right * (softened / values)) @ right.T
        return LinearMap("SoftDecay", torch.zeros(vectors.shape[1], device=vectors.device), factor.float())
