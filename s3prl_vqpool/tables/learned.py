"""The learned poolings of arXiv 2304.03940's Table 2: pooling and linear layer, trained together on frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..runner.head import Pooled
from . import linear
from .features import Features
from .linear import Fits, Problem, Settings, loss, order, shares


def fit(
    name: str,
    features: Features,
    problem: Problem,
    settings: Settings,
    options: Mapping[str, Any] | None = None,
) -> Fits:
    """As `trainer.linear.fit`, of one variant, with a pooling that is learned.

    Args:
        name: a pooling that is learned.
        features: N utterances with frames.
        options: those of the pooling that are not to have their defaults.
    """
    runs = [
        _train(name, options, features, problem, settings, seed, rate)
        for seed in settings.seeds
        for rate in settings.rates
    ]
    dev, epoch, found = zip(*runs)
    predicted = torch.stack(found)  # [H, test, slots]
    test = shares(predicted, problem, problem.test)
    shape = (1, len(settings.seeds), len(settings.rates))
    kinds = (torch.tensor(dev, dtype=torch.float64), test, torch.tensor(epoch), predicted)
    return Fits(*(each.unflatten(0, shape) for each in kinds))


def initial(name: str, dim: int, outputs: int, seed: int, options: Mapping[str, Any] | None = None) -> Pooled:
    """Pooling and linear layer, drawn with ``seed``. The process's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Pooled(dim, outputs, name, options)


def train_epoch(
    head: Pooled,
    optimizer: torch.optim.Optimizer,
    features: Features,
    problem: Problem,
    batches: Iterable[Tensor],
) -> None:
    """One pass over ``batches`` of rows."""
    for rows in batches:
        optimizer.zero_grad()
        # the gradient of a batch is computed in parts of similar length: less padding, and less memory
        for part, lengths, frames in features.padded(rows):
            logits = head(frames, lengths, None)
            (loss(logits, problem.labels[part], problem.classes) / len(rows)).backward()
        optimizer.step()


def _train(
    name: str,
    options: Mapping[str, Any] | None,
    features: Features,
    problem: Problem,
    settings: Settings,
    seed: int,
    rate: float,
) -> tuple[float, int, Tensor]:
    """Accuracy in % on dev after the best epoch on dev, that epoch, from 1, and labels [test, slots] after it."""
    head = initial(name, features.dim, sum(problem.classes), seed, options)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate, fused=True)
    best, at = -1.0, 0
    for epoch in tqdm(range(settings.epochs), desc="epochs", leave=False, disable=None):
        batches = order(problem.train, seed, epoch).split(settings.batch)
        train_epoch(head, optimizer, features, problem, batches)
        found = predictions(head, features, problem, problem.dev)
        dev = float(shares(found, problem, problem.dev, problem.dev_weights))
        if dev > best:
            best, at, kept = dev, epoch + 1, deepcopy(head)
    return best, at, predictions(kept, features, problem, problem.test)


@torch.no_grad()
def predictions(head: Pooled, features: Features, problem: Problem, rows: Tensor) -> Tensor:
    """Labels int64 [rows, slots] that a head gives to ``rows``."""
    found = torch.zeros_like(problem.labels)
    for part, lengths, frames in features.padded(rows):
        found[part] = linear.best(head(frames, lengths, None), problem.classes)
    return found[rows]
