"""Table 1 of arXiv 2304.03940: the label of the nearest training utterance, by angle.

The published run asks an approximate index; this one is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import pooling
from ..errors import InputError
from ..runner.statistics import FITS
from .features import Features

#: What the paper searches VQ-SIF's a in; here the dev split decides, fold by fold, and a tie goes to the smallest.
SIF_A = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
#: Cosines (float64) this close are equal, so that rounding in a matrix product cannot choose between equal vectors.
TIE = 1e-12
_COSINES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Fold:
    """One division of a task's utterances; ``train``, ``dev`` and ``test`` are rows, int64.

    ``dev_weights`` float64: how much each dev utterance counts (S3PRL balances the classes of KS so).
    """

    name: str
    train: Tensor
    dev: Tensor
    test: Tensor
    dev_weights: Tensor


@dataclass(frozen=True)
class Score:
    """Test accuracy in % of one fold; where dev chose VQ-SIF's ``a``, that, and dev's accuracy of each."""

    fold: str
    accuracy: float
    a: float | None = None
    dev: dict[float | None, float] = field(default_factory=dict)


def evaluate(name: str, features: Features, labels: Tensor, folds: Sequence[Fold]) -> Iterator[Score]:
    """The score of each fold of pooling ``name``; its statistics are those of the fold's training rows alone.

    Args:
        name: a pooling that is not learned.
        features: N utterances.
        labels: [N, slots] int64; an utterance is right where all slots are.
    """
    for fold, found in zip(folds, candidates(name, features, folds)):
        if "a" in pooling.method(name).options:
            yield _best_on_dev(found, labels, fold)
        else:
            ((_, vectors),) = found
            yield Score(fold.name, accuracy(vectors, labels, fold.train, fold.test))


def candidates(
    name: str, features: Features, folds: Sequence[Fold]
) -> Iterator[Iterator[tuple[float | None, Tensor]]]:
    """For each fold the vectors [N, E] of a pooling that is not learned: of VQ-SIF by each a of `SIF_A`, else by None.

    Statistics are those of the fold's training rows alone.
    """
    known = pooling.method(name)
    fixed = None if known.needs_statistics else features.pooled(known.name)
    for fold in folds:
        if fixed is not None:
            yield iter([(None, fixed)])
        elif known.kind == "vector":
            linear = FITS[known.name](features.averages[fold.train])
            yield iter([(None, linear(features.averages.double()))])
        else:
            counts = features.counts(fold.train)
            choices = SIF_A if "a" in known.options else (None,)
            yield ((a, features.pooled(known.name, counts, a)) for a in choices)


def _best_on_dev(found: Iterable[tuple[float | None, Tensor]], labels: Tensor, fold: Fold) -> Score:
    dev: dict[float | None, float] = {}
    chosen, best = None, -1.0
    for a, vectors in found:
        dev[a] = accuracy(vectors, labels, fold.train, fold.dev, fold.dev_weights)
        if dev[a] > best:
            chosen, best, kept = a, dev[a], vectors
    return Score(fold.name, accuracy(kept, labels, fold.train, fold.test), chosen, dev)


def accuracy(
    vectors: Tensor, labels: Tensor, train: Tensor, rows: Tensor, weights: Tensor | None = None
) -> float:
    """Share in % of ``rows`` whose nearest row of ``train`` has the same labels; ``weights`` [rows], by default 1."""
    found = train[nearest(vectors[train], vectors[rows])]
    right = (labels[found] == labels[rows]).all(dim=1).double()
    weights = torch.ones_like(right) if weights is None else weights
    return float(100 * (right @ weights) / weights.sum())


def nearest(index: Tensor, queries: Tensor, block: int | None = None) -> Tensor:
    """Row of ``index`` [N, D] at the smallest angle to each of ``queries`` [M, D], int64 [M]; ties to the lowest row.

    Exact: cosines in float64, of any floating dtype. A vector of zeros has the cosine 0 with every other.
    ``block`` queries are compared at once, by default as many as fit into 128 MiB.

    Raises:
        InputError: vectors that are not finite.
    """
    index = _directions(index).T.contiguous()  # [D, N]
    found = []
    for part in _directions(queries).split(block or max(1, _COSINES_AT_ONCE // index.shape[1])):
        cosines = part @ index  # [block, N]
        close = cosines >= cosines.amax(dim=1, keepdim=True) - TIE
        found.append(close.to(torch.uint8).argmax(dim=1))  # the first of equals
    return torch.cat(found)


def _directions(vectors: Tensor) -> Tensor:
    """``vectors`` in float64 and of length 1, or 0."""
    vectors = vectors.double()
    bad = ~vectors.isfinite().all(dim=1)
    if bad.any():
        raise InputError(f"Expected finite vectors, but the one at index {int(bad.nonzero()[0])} is not.")
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, 1)
