"""Table 1 of arXiv 2304.03940: the label of the nearest training utterance, by angle.

The published run uses an approximate index. This search is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import pooling
from ..pooling import Counts
from ..pooling.options import grid
from .features import Features
from .neighbours import nearest


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
class Candidate:
    """Options of a pooling that dev chooses among, and accuracy in % on dev with them."""

    options: dict[str, Any]
    dev: float


@dataclass(frozen=True)
class Score:
    """One fold.

    Attributes:
        accuracy: on test in %.
        predicted: labels int64 [test, slots] that the nearest neighbours have.
        options: of the pooling, and where dev chose them the candidates.
    """

    fold: str
    accuracy: float
    predicted: Tensor = field(repr=False, compare=False)
    options: dict[str, Any] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()


def evaluate(
    name: str,
    features: Features,
    labels: Tensor,
    folds: Sequence[Fold],
    given: Mapping[str, Any] | None = None,
) -> Iterator[Score]:
    """The score of each fold of pooling ``name``; its statistics are those of the fold's training rows alone.

    Args:
        name: a pooling that is not learned.
        features: N utterances.
        labels: [N, slots] int64; an utterance is right if all its slots are right.
        given: options of the pooling; dev chooses the others that have a grid.
    """
    tuned = len(grid(pooling.method(name).options, given)) > 1
    for fold, found in zip(folds, candidates(name, features, folds, given)):
        if tuned:
            yield _best_on_dev(found, labels, fold)
        else:
            ((options, vectors),) = found
            yield score(vectors, labels, fold, options)


def candidates(
    name: str, features: Features, folds: Sequence[Fold], given: Mapping[str, Any] | None = None
) -> Iterator[Iterable[tuple[dict[str, Any], Tensor]]]:
    """For each fold the vectors [N, E] of a pooling that is not learned, with all options that dev chooses among.

    Options that are ``given`` are fixed. Statistics are those of the fold's training rows alone.
    """
    known = pooling.method(name)
    choices = grid(known.options, given)
    pooled: dict[str, Tensor] = {}  # where nothing is counted, the vectors of all folds
    for fold in folds:
        counts = features.counts(fold.train) if known.needs_counts else None
        yield _vectors(known, choices, features, fold, counts, {} if counts else pooled)


def fixed(name: str, features: Features, fold: Fold, given: Mapping[str, Any]) -> Tensor:
    """Vectors [N, E] of a pooling that is not learned; an option that is not ``given`` has its default."""
    defaults = {option.name: option.default for option in pooling.method(name).options if option.grid}
    ((_, vectors),) = next(candidates(name, features, [fold], {**defaults, **given}))
    return vectors


def _vectors(
    known: pooling.Method,
    choices: Sequence[dict[str, Any]],
    features: Features,
    fold: Fold,
    counts: Counts | None,
    pooled: dict[str, Tensor],
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Of each choice of options, those and the vectors [N, E]; a map is fitted on the training rows' vectors."""
    for options in choices:
        own = known.unmapped.own(options)
        if str(own) not in pooled:
            pooled.clear()
            pooled[str(own)] = features.pooled(known.unmapped.name, counts, **own)
        vectors = pooled[str(own)]
        if known.map is not None:
            fitted = {
                option.name: options[option.name] for option in known.map.options if option.name in options
            }
            vectors = pooling.fit(known.name, vectors[fold.train], **fitted)(vectors.double())
        yield options, vectors


def _best_on_dev(found: Iterable[tuple[dict[str, Any], Tensor]], labels: Tensor, fold: Fold) -> Score:
    """The score with the options that are best on dev; of equals the first."""
    tried: list[Candidate] = []
    for options, vectors in found:
        dev = accuracy(vectors, labels, fold.train, fold.dev, fold.dev_weights)
        if not tried or dev > max(each.dev for each in tried):
            chosen, kept = options, vectors
        tried.append(Candidate(options, dev))
    return score(kept, labels, fold, chosen, tuple(tried))


def score(
    vectors: Tensor,
    labels: Tensor,
    fold: Fold,
    options: Mapping[str, Any] | None = None,
    tried: tuple[Candidate, ...] = (),
) -> Score:
    """Of vectors [N, E]; ``options`` of the pooling, and what they were ``tried`` against, are told only."""
    found = predicted(vectors, labels, fold.train, fold.test)
    share = share_right(found, labels[fold.test])
    return Score(fold.name, share, found, dict(options or {}), tried)


def accuracy(
    vectors: Tensor, labels: Tensor, train: Tensor, rows: Tensor, weights: Tensor | None = None
) -> float:
    """Share in % of ``rows`` whose nearest row of ``train`` has the same labels; ``weights`` [rows], by default 1."""
    return share_right(predicted(vectors, labels, train, rows), labels[rows], weights)


def share_right(found: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Share in % of rows [rows, slots] that have all labels; ``weights`` [rows], by default 1."""
    right = (found == labels).all(dim=1).double()
    weights = torch.ones_like(right) if weights is None else weights
    return float(100 * (right @ weights) / weights.sum())


def predicted(vectors: Tensor, labels: Tensor, train: Tensor, rows: Tensor) -> Tensor:
    """Labels [rows, slots] of the nearest row of ``train``; labels are [N, slots]."""
    return labels[train[nearest(vectors[train], vectors[rows])]]
