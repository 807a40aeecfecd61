"""The order of the training utterances, seeded by (seed, epoch), and each rank's share of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import torch
from torch.distributed import get_rank, get_world_size, is_initialized
from torch.utils.data import Sampler


def rank_and_world() -> tuple[int, int]:
    """This process's rank and how many there are; (0, 1) outside distributed training."""
    return (get_rank(), get_world_size()) if is_initialized() else (0, 1)


def share(indices: Sequence[int]) -> list[int]:
    """This rank's share: every world-th index from the rank on. The list is wrapped so that shares are equal."""
    rank, world = rank_and_world()
    each = -(-len(indices) // world)
    return list(islice(cycle(indices), each * world))[rank::world]


class Draw(int):
    """The index of an utterance, and the ``seed`` of the random piece that is read of it this time."""

    seed: int

    def __new__(cls, index: int, seed: int) -> Draw:
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __reduce__(self) -> tuple[type[Draw], tuple[int, int]]:
        return Draw, (int(self), self.seed)


class TrainingSampler(Sampler[int]):
    """Indices of one epoch: a permutation, or, with weights, a draw with replacement of the same length.

    Each index is a `Draw`, so that random pieces depend neither on the number of the DataLoader's workers nor on
    the number of ranks.

    All ranks draw the same list from a generator of their own and take their share of it, so the process's
    random state is neither read nor changed, and a resumed epoch has the order that it had.

    Args:
        size: number of utterances.
        weights: [size] sampling weights (S3PRL's class balancing), or None for a permutation.
        seed: the run's seed (S3PRL's --seed).
        epoch: 0, 1, ...
    """

    def __init__(self, size: int, weights: Sequence[float] | None, seed: int, epoch: int) -> None:
        self.size, self.weights = size, weights
        self.generator_seed = seed * 1_000_003 + epoch

    def __len__(self) -> int:
        return -(-self.size // rank_and_world()[1])

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.generator_seed)
        if self.weights is None:
            drawn = torch.randperm(self.size, generator=generator)
        else:
            weights = torch.as_tensor(self.weights, dtype=torch.double)
            drawn = torch.multinomial(weights, self.size, replacement=True, generator=generator)
        first = int(torch.randint(2**62, (), generator=generator))
        return iter(share([Draw(index, first + place) for place, index in enumerate(drawn.tolist())]))


class DistributedSamplerWrapper(Sampler[int]):
    """The indices of any sampler, shared by rank. Replaces catalyst's class of this name for S3PRL's own experts."""

    def __init__(self, sampler: Sampler[int]) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return -(-len(self.sampler) // rank_and_world()[1])  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return iter(share(list(self.sampler)))
