"""Maps of a pooled vector, fitted on the training set's vectors of the same pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from . import moments as _registered_before  # noqa: F401 (the names below are AP's)
from .files import read_statistics, write_statistics
from .options import Option, one_of
from .registry import method, register_map, register_name

_PAPER = "arXiv 2304.03940, Table 1"


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``(x - mean) @ factor``, or ``* factor`` where that is [E]: mean [E], float32, of the pooling ``name``."""

    name: str
    mean: Tensor
    factor: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Maps vectors [..., E]."""
        offset, factor = vectors - self.mean.to(vectors.dtype), self.factor.to(vectors.dtype)
        return offset * factor if factor.ndim == 1 else offset @ factor

    def save(self, path: str | Path, identity: Mapping[str, object], **more: Tensor) -> None:
        """Writes a safetensors file with ``identity`` (upstream, corpus); it appears only when complete."""
        write_statistics(path, self.name, {"mean": self.mean, "factor": self.factor, **more}, identity)

    @classmethod
    def load(cls, name: str, path: str | Path, expect: Mapping[str, object] | None = None) -> LinearMap:
        """Reads what `save` wrote; InputError if it is another pooling's or not as ``expect`` says."""
        tensors = read_statistics(path, name, ("mean", "factor"), expect)
        mean, factor = tensors["mean"], tensors["factor"]
        if mean.ndim != 1 or factor.shape not in ((len(mean),), (len(mean), len(mean))):
            raise InputError(
                f"{path}: expected mean [E] and factor [E] or [E, E],"
                f" but got {list(mean.shape)} and {list(factor.shape)}."
            )
        return cls(name, mean, factor)


def fit(name: str, vectors: Tensor, **options: Any) -> LinearMap:
    """The map of pooling ``name``, fitted on vectors of the training set under the same pooling without its map.

    Args:
        name: a pooling with a map, such as VQ-LP+std|standardise.
        vectors: [N, E], floating: what ``build("VQ-LP+std", dim)`` gives.
        options: those of the map, such as the ``shrinkage`` of whitening.

    Raises:
        InputError: a pooling without a map, a wrong shape, a vector that is not finite, or an unknown option.
    """
    known = method(name)
    if known.map is None:
        raise InputError(f"{known.name} has no map to fit; with one: {known.name}|whitening, for instance.")
    values = {o.name: o.default for o in known.map.options} | known.read(options)
    mean, factor = known.map.fit(_checked(vectors), **{o.name: values[o.name] for o in known.map.options})
    return LinearMap(known.spec, mean.float(), factor.float())


def _checked(vectors: Tensor) -> Tensor:
    """``vectors`` [N, E] as float64."""
    if vectors.ndim != 2 or 0 in vectors.shape or not vectors.is_floating_point():
        raise InputError(
            f"Expected vectors [N, E] of a floating dtype, but got {list(vectors.shape)} {vectors.dtype}."
        )
    if not vectors.isfinite().all():
        row = int((~vectors.isfinite()).any(dim=1).nonzero()[0])
        raise InputError(f"Expected finite vectors, but the one at index {row} is not.")
    return vectors.detach().double()


def _decomposed(vectors: Tensor, origin: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Singular values [n] and right singular vectors [E, n] of ``vectors - origin`` [N, E] that are not 0."""
    _, values, right = torch.linalg.svd(vectors - origin, full_matrices=False)
    # Rounding each number to float32 moves no singular value by more than this, however many vectors there are.
    kept = values > torch.finfo(torch.float32).eps * vectors.norm()
    return values[kept], right[kept].T


@register_map("standardise")
def standardise(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """``(x - mean) / s`` in each dimension, s the standard deviation over the training set (not unbiased).

    A dimension that does not vary in the training set, but for rounding, is mapped to 0.
    """
    mean = vectors.mean(dim=0)
    spread = (vectors - mean).square().mean(dim=0).sqrt()
    varies = spread > torch.finfo(torch.float32).eps * vectors.abs().amax(dim=0)
    return mean, torch.where(varies, 1 / spread.where(varies, 1), 0)


@register_map(
    "whitening",
    source=_PAPER,
    options=(Option("shrinkage", "none", one_of("none", "ledoit-wolf")),),
)
def whitening(vectors: Tensor, shrinkage: str) -> tuple[Tensor, Tensor]:
    """``(x - mean) @ U @ diag(S ** -0.5)``, U and S from the SVD of the training vectors' scatter matrix.

    The scatter matrix ``(E - mean).T @ (E - mean)`` is not divided by the number of vectors. Directions without
    variance are mapped to 0, where the published code divides by (almost) 0. Of each column of U the largest entry
    is positive. With ``shrinkage`` "ledoit-wolf" the scatter is ``(1 - d)`` times itself plus ``d`` times its mean
    eigenvalue in all directions, d as scikit-learn's LedoitWolf estimates it.
    Source: arXiv 2304.03940, Table 1.
    """
    mean = vectors.mean(dim=0)
    values, right = _decomposed(vectors, mean)
    if shrinkage == "ledoit-wolf":
        return mean, _shrunk(vectors - mean, values, right)
    right = right * right.gather(0, right.abs().argmax(dim=0, keepdim=True)).sign()
    factor = vectors.new_zeros(len(mean), len(mean))
    factor[:, : len(values)] = right / values
    return mean, factor


def _shrunk(centred: Tensor, values: Tensor, right: Tensor) -> Tensor:
    """``scatter ** -0.5`` [E, E] of the shrunk scatter; singular values [n], vectors [E, n] of ``centred`` [N, E]."""
    try:
        from sklearn.covariance import ledoit_wolf_shrinkage
    except ImportError:
        raise InputError(
            "shrinkage=ledoit-wolf needs scikit-learn: pip install 's3prl-vqpool[shrinkage]'."
        ) from None
    share = float(ledoit_wolf_shrinkage(centred.cpu().numpy(), assume_centered=True))
    floor = share * values.square().sum() / len(right)
    if not floor > 0:  # constant vectors, or nothing to shrink
        return right / values @ right.T
    inside = ((1 - share) * values.square() + floor).rsqrt()
    others = torch.eye(len(right), dtype=right.dtype, device=right.device) - right @ right.T
    return right * inside @ right.T + others * floor.rsqrt()


@register_map("softdecay", source=_PAPER)
def soft_decay(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """``x @ V @ diag(s' / s) @ V.T``: SoftDecay's flatter spectrum, for a single vector.

    ``U diag(s) V.T``: SVD of the training vectors X; ``s' = -log(1 - a (s + a) + 1e-7) / a`` with a = -0.6, rescaled
    so that ``max(s') = max(s)``. On X itself this is ``U diag(s') V.T``, the published transform of a matrix. The
    published benchmark applies that transform to one utterance at a time: a matrix of one row has one singular
    value, which rescaling restores, so it returns the vector itself (hence its rows in Table 1, which are AP's up to
    chance). Here it is fitted on the training set instead. Directions in which X has no extent are mapped to 0.
    Source: arXiv 2304.03940, Table 1.
    """
    values, right = _decomposed(vectors)
    alpha = -0.6
    softened = -torch.log(1 - alpha * (values + alpha) + 1e-7) / alpha
    if len(values):
        softened = softened * values.max() / softened.max()
    factor = (right * (softened / values)) @ right.T
    return torch.zeros(vectors.shape[1], dtype=vectors.dtype, device=vectors.device), factor


for _name, _spec in (("Whitening", "AP|whitening"), ("SoftDecay", "AP|softdecay")):
    register_name(_name, _spec, family="linear map", source=_PAPER, doc=f"{_spec}.")
