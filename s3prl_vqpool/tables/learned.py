"""The learned poolings of arXiv 2304.03940's Table 2: pooling and linear layer, trained together on frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..runner.head import Pooled
from .features import Features
from .linear import Fits, Problem, Settings, loss, order, right


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
        [_train(name, options, features, problem, settings, seed, rate) for rate in settings.rates]
        for seed in settings.seeds
    ]
    dev, test, epoch = torch.tensor(runs, dtype=torch.float64).unsqueeze(0).unbind(-1)
    return Fits(dev, test, epoch.long())


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
) -> tuple[float, float, int]:
    """Accuracy in % on dev and test after the best epoch on dev, and that epoch, from 1."""
    head = initial(name, features.dim, sum(problem.classes), seed, options)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate, fused=True)
    best, at = -1.0, 0
    for epoch in tqdm(range(settings.epochs), desc="epochs", leave=False, disable=None):
        batches = order(problem.train, seed, epoch).split(settings.batch)
        train_epoch(head, optimizer, features, problem, batches)
        dev = accuracy(head, features, problem, problem.dev, problem.dev_weights)
        if dev > best:
            best, at, kept = dev, epoch + 1, deepcopy(head)
    return best, accuracy(kept, features, problem, problem.test), at


@torch.no_grad()
def accuracy(
    head: Pooled, features: Features, problem: Problem, rows: Tensor, weights: Tensor | None = None
) -> float:
    """Accuracy in % on ``rows``; ``weights`` float64 [rows], by default 1."""
    correct = torch.zeros(len(problem.labels), dtype=torch.float64)
    for part, lengths, frames in features.padded(rows):
        correct[part] = right(head(frames, lengths, None), problem.labels[part], problem.classes).double()
    weights = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights
    return float(100 * (correct[rows] @ weights) / weights.sum())
