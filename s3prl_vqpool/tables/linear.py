"""Linear layers on fixed vectors (arXiv 2304.03940, Table 2): every variant, seed and learning rate as one model."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..corpora.sampling import TrainingSampler
from ..errors import InputError

#: Numbers (of values and logits) that an evaluation has at once.
_AT_ONCE = 2**24


@dataclass(frozen=True)
class Settings:
    """Utterances per batch, epochs, learning rates of Adam, seeds of the initial parameters and of the order."""

    batch: int
    epochs: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """A classification problem: labels, and which of N utterances to learn from.

    Attributes:
        labels: int64 [N, slots]; an utterance is right if all its slots are right.
        classes: number of classes of each slot.
        train, dev, test: rows, int64.
        dev_weights: float64 [dev], how much each dev utterance counts.
    """

    labels: Tensor
    classes: tuple[int, ...]
    train: Tensor
    dev: Tensor
    test: Tensor
    dev_weights: Tensor


@dataclass(frozen=True, eq=False)
class Fits:
    """Accuracy in % on dev and test, float64 [variants, seeds, rates], after the epoch, from 1, that is best on dev.

    ``predicted``: labels int64 [variants, seeds, rates, test, slots] at that epoch.
    """

    dev: Tensor
    test: Tensor
    epoch: Tensor
    predicted: Tensor


class Stack:
    """H = variants * seeds * rates linear layers, in this order; a seed's all start from the same parameters.

    Args:
        size: E, of a vector.
        outputs: C, number of logits.
        layers: softmax weights over so many layers, first equal, come before each linear layer; 0 for none.
    """

    def __init__(self, settings: Settings, variants: int, size: int, outputs: int, layers: int = 0) -> None:
        self.shape = torch.Size((variants, len(settings.seeds), len(settings.rates)))
        drawn = [initial(size, outputs, seed) for seed in settings.seeds]
        weight, bias = (torch.stack(each) for each in zip(*drawn))  # [S, C, E], [S, C]
        kinds = [weight.repeat(variants, 1, 1), bias.repeat(variants, 1)]
        kinds += [torch.zeros(variants * len(drawn), layers)] if layers else []
        # a parameter per rate, as torch's Adam has a rate per parameter
        self.kinds: list[list[Tensor]] = [
            [nn.Parameter(each.clone()) for _ in settings.rates] for each in kinds
        ]

    def logits(self, values: Tensor) -> Tensor:
        """[H, B, C] of float32 [G, B, E], or [G, B, layers, E]; G divides H: heads side by side share values."""
        rows, size = values.size(1), values.size(-1)
        weight, bias, *mix = (torch.stack(kind, dim=1).flatten(0, 1) for kind in self.kinds)
        if mix:
            shares = mix[0].softmax(dim=1).view(len(values), -1, values.size(2))  # [G, H/G, layers]
            values = (shares @ values.transpose(1, 2).flatten(2)).view(-1, rows, size)  # [H, B, E]
        shared = weight.view(len(values), -1, size).transpose(1, 2)  # [G, E, H/G*C]
        logits = torch.baddbmm(bias.view(len(values), 1, -1), values, shared)
        return logits.view(len(values), rows, -1, weight.size(1)).transpose(1, 2).flatten(0, 1)

    def optimizer(self, settings: Settings) -> torch.optim.Adam:
        """Adam, each head at its rate."""
        groups = zip(settings.rates, zip(*self.kinds))
        return torch.optim.Adam([{"params": own, "lr": rate} for rate, own in groups], fused=True)

    @torch.no_grad()
    def take(self, other: Stack, which: Tensor) -> None:
        """The parameters of ``other`` for the heads ``which``, bool [variants, seeds, rates]."""
        for own, theirs in zip(self.kinds, other.kinds):
            for parameter, value, chosen in zip(own, theirs, which.flatten(0, 1).unbind(1)):
                parameter[chosen] = value[chosen]


def initial(size: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight [outputs, size] and bias of a `torch.nn.Linear` drawn with ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(size, outputs)
    return layer.weight.detach(), layer.bias.detach()


def order(rows: Tensor, seed: int, epoch: int) -> Tensor:
    """``rows`` in the order of ``seed`` and ``epoch``."""
    return rows[torch.tensor(list(TrainingSampler(len(rows), None, seed, epoch)))]


def fit(vectors: Tensor, problem: Problem, settings: Settings) -> Fits:
    """Train a linear layer for every variant, seed and learning rate, and keep the best epoch on dev of each.

    The loss is the sum over slots of the mean cross-entropy. Of epochs that are equal on dev the first is taken.

    Args:
        vectors: floating [variants, N, E], or [variants, N, layers, E] for learned softmax weights over layers
            before each linear layer.

    Raises:
        InputError: vectors that are not finite.

    Source: arXiv 2304.03940, Table 2.
    """
    bad = ~vectors.flatten(2).isfinite().all(dim=2).all(dim=0)
    if bad.any():
        raise InputError(f"Expected finite vectors, but the one at index {int(bad.nonzero()[0])} is not.")
    layers = vectors.size(2) if vectors.dim() == 4 else 0
    stack = Stack(settings, len(vectors), vectors.size(-1), sum(problem.classes), layers)
    optimizer, kept = stack.optimizer(settings), deepcopy(stack)
    highest = torch.full(stack.shape, -1.0, dtype=torch.float64)
    at = torch.zeros_like(highest, dtype=torch.int64)
    for epoch in tqdm(range(settings.epochs), desc="epochs", leave=False, disable=None):
        train_epoch(stack, optimizer, vectors, problem, settings, epoch)
        dev = accuracies(stack, vectors, problem, problem.dev, problem.dev_weights)
        better = dev > highest
        kept.take(stack, better)
        highest[better], at[better] = dev[better], epoch + 1
    predicted = predictions(kept, vectors, problem, problem.test)
    return Fits(highest, shares(predicted, problem, problem.test), at, predicted)


def train_epoch(
    stack: Stack,
    optimizer: torch.optim.Optimizer,
    vectors: Tensor,
    problem: Problem,
    settings: Settings,
    epoch: int,
) -> None:
    """One pass over the training rows, for each seed in its own order."""
    orders = torch.stack([order(problem.train, seed, epoch) for seed in settings.seeds])
    for rows in orders.split(settings.batch, dim=1):  # [S, B]
        logits = stack.logits(vectors[:, rows].flatten(0, 1).float())  # [H, B, C]
        targets = problem.labels[rows][None, :, None].expand(len(vectors), -1, len(settings.rates), -1, -1)
        optimizer.zero_grad()
        # a sum over heads: each has the gradient of its own mean
        (loss(logits.flatten(0, 1), targets.flatten(0, 3), problem.classes) / rows.size(1)).backward()
        optimizer.step()


def loss(logits: Tensor, targets: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Cross-entropy of logits [N, C] and targets [N, slots], summed over slots and utterances."""
    slots = logits.split(list(classes), dim=1)
    return sum(F.cross_entropy(slot, targets[:, k], reduction="sum") for k, slot in enumerate(slots))  # type: ignore[return-value]


@torch.no_grad()
def accuracies(
    stack: Stack, vectors: Tensor, problem: Problem, rows: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Accuracy in % of each head on ``rows``, float64 [variants, seeds, rates]; ``weights`` [rows], by default 1."""
    return shares(predictions(stack, vectors, problem, rows), problem, rows, weights)


def shares(predicted: Tensor, problem: Problem, rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share in % of ``rows`` whose labels are ``predicted`` [..., rows, slots], float64 [...]."""
    weights = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights
    right = (predicted == problem.labels[rows]).all(dim=-1)
    return 100 * (right.double() @ weights) / weights.sum()


@torch.no_grad()
def predictions(stack: Stack, vectors: Tensor, problem: Problem, rows: Tensor) -> Tensor:
    """Labels int64 [variants, seeds, rates, rows, slots] that each head gives to ``rows``."""
    numbers = vectors[:, 0].numel() + stack.shape.numel() * (sum(problem.classes) + vectors.size(-1))
    step = max(1, _AT_ONCE // numbers)
    parts = [best(stack.logits(vectors[:, part].float()), problem.classes) for part in rows.split(step)]
    return torch.cat(parts, dim=1).unflatten(0, stack.shape)


def best(logits: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Index of the highest logit in each slot, int64 [..., N, slots] of [..., N, C]."""
    return torch.stack([slot.argmax(dim=-1) for slot in logits.split(list(classes), dim=-1)], dim=-1)
