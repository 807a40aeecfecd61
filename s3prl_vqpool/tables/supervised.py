"""Table 2 of arXiv 2304.03940 by its own protocol: one linear layer from the pooled vector to the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import pooling
from ..trainer.runs import name_of
from . import learned, linear, nearest
from .linear import Fits, Problem, Settings
from .nearest import Fold
from .stores import StoredTask


@dataclass(frozen=True)
class Candidate:
    """What dev chooses among, and its accuracy in % on dev for each seed."""

    rate: float
    options: dict[str, Any]
    dev: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """One fold.

    Attributes:
        accuracy: on test in %, of each seed.
        best: the epoch or step that was best on dev, of each seed.
        rate, options: learning rate and options of the pooling that were chosen, for all seeds: those of the
            candidate with the highest mean on dev.
        predicted: labels int64 [seeds, n, slots] of the first n utterances of test, which are all, unless S3PRL's
            `evaluate_ratio` cut them.
    """

    fold: str
    accuracy: tuple[float, ...]
    best: tuple[int, ...]
    rate: float
    options: dict[str, Any]
    candidates: tuple[Candidate, ...]
    predicted: Tensor = field(repr=False, compare=False)


#: pooling -> task -> the score of each fold
Scores = dict[str, dict[str, list[Score]]]


@dataclass(frozen=True)
class Measured:
    """Scores by a protocol; how each task was trained, in a line and in full."""

    protocol: str
    title: str
    scores: Scores
    lines: dict[str, str]
    settings: dict[str, Any]


def measure(
    tasks: Sequence[StoredTask],
    names: Sequence[str],
    rates: Sequence[float] | None,
    seeds: Sequence[int],
    given: Mapping[str, Mapping[str, Any]],
    tick: Callable[[str], None],
) -> Measured:
    """Scores of poolings ``names``.

    Args:
        rates: None are the paper's.
        given: of a pooling, the options that dev does not choose.
        tick: is called for each pooling of a task.
    """
    scores: Scores = {name: {} for name in names}
    used = {task.name: settings(task, rates, seeds) for task in tasks}
    for task in tasks:
        for name in names:
            scores[name][task.name] = list(evaluate(name, task, used[task.name], given.get(name)))
            tick(f"{task.name} {name}")
    lines = {name: line(each) for name, each in used.items()}
    full = {name: asdict(each) for name, each in used.items()}
    return Measured("paper", "One linear layer on pooled vectors, test accuracy in %", scores, lines, full)


def settings(task: StoredTask, rates: Sequence[float] | None, seeds: Sequence[int]) -> Settings:
    """The paper's for a task, at its own learning rate or at ``rates``."""
    protocol = task.kind.protocol
    return Settings(protocol.batch, protocol.epochs, tuple(rates or [protocol.rate]), tuple(seeds))


def line(settings: Settings) -> str:
    """In words."""
    return f"{settings.epochs} epochs in batches of {settings.batch}, lr {listed(settings.rates)}"


def listed(rates: Iterable[float]) -> str:
    """Learning rates, in the spelling of `vqpool train`."""
    return ", ".join(map(name_of, rates))


def evaluate(
    name: str, task: StoredTask, settings: Settings, given: Mapping[str, Any] | None = None
) -> Iterator[Score]:
    """The score of each fold of pooling ``name``; its statistics are those of the fold's training rows alone."""
    if pooling.method(name).learned is not None:
        for fold in task.folds:
            fits = learned.fit(name, task.features, problem(task, fold), settings, given)
            yield chosen(fold.name, fits, settings.rates, [dict(given or {})])
    else:
        for fold, found in zip(task.folds, nearest.candidates(name, task.features, task.folds, given)):
            options, vectors = zip(*found)
            stacked = torch.stack([each.float() for each in vectors])  # [variants, N, E]
            fits = linear.fit(stacked, problem(task, fold), settings)
            yield chosen(fold.name, fits, settings.rates, options)


def problem(task: StoredTask, fold: Fold) -> Problem:
    """The classification problem of a fold."""
    return Problem(task.labels, task.classes, fold.train, fold.dev, fold.test, fold.dev_weights)


def chosen(fold: str, fits: Fits, rates: Sequence[float], options: Sequence[dict[str, Any]] = ({},)) -> Score:
    """The variant and rate with the highest mean over seeds on dev, of equals the first.

    ``options``: those of each variant.
    """
    candidates = tuple(
        Candidate(rate, each, tuple(fits.dev[variant, :, place].tolist()))
        for variant, each in enumerate(options)
        for place, rate in enumerate(rates)
    )
    best = int(fits.dev.mean(dim=1).argmax())
    variant, place = divmod(best, len(rates))
    return Score(
        fold,
        tuple(fits.test[variant, :, place].tolist()),
        tuple(fits.epoch[variant, :, place].tolist()),
        candidates[best].rate,
        candidates[best].options,
        candidates,
        fits.predicted[variant, :, place],
    )
