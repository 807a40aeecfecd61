"""Random utterances and a module of every registered pooling, for the tests of this folder."""

from __future__ import annotations

import pooling_loops
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from s3prl_vqpool.pooling import Counts, build, counts, fit, method, methods, points

DIM = 6
SIZES = (5, 7)
EVERY = list(dict.fromkeys([*methods(), *points()]))
"""All names and all points of the product."""
WEIGHTS = [name for name in methods() if method(name).weights_alone]
PAPER = [name for name in WEIGHTS if name in pooling_loops.WEIGHTS]
"""Those with a loop reference: what the paper defines, and what is proved of it."""
LOCAL = [name for name in PAPER if not method(name).needs_counts]
ANYWHERE = [name for name in methods() if name in PAPER or not method(name).weights_alone]
ANYWHERE = [name for name in ANYWHERE if not name.startswith("VQ-Squash")]
"""Poolings that do not look at which frames are neighbours."""

Utterances = list[list[tuple[int, ...]]]


@st.composite
def utterances(draw: st.DrawFn) -> tuple[Utterances, tuple[int, ...]]:
    """Codes of up to 4 utterances of up to 12 frames, and the sizes, up to 6, of up to 3 codebooks."""
    sizes = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    frame = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return draw(st.lists(st.lists(frame, min_size=1, max_size=12), min_size=1, max_size=4)), sizes


def padded(codes: Utterances, padding: int = -1) -> tuple[Tensor, Tensor]:
    """Codes [B, T, G] and lengths [B] of a batch."""
    lengths = torch.tensor([len(q) for q in codes])
    batch = torch.full((len(codes), int(lengths.max()), len(codes[0][0])), padding)
    for row, q in zip(batch, codes):
        row[: len(q)] = torch.tensor(q)
    return batch, lengths


def random_batch(
    lengths: list[int], seed: int = 0, sizes: tuple[int, ...] = SIZES
) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [B, T, DIM], lengths [B] and codes [B, T, G] in which neighbours often agree."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    frames = torch.randn(*shape, DIM, generator=generator)
    codes = torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=2)
    for t in range(1, shape[1]):
        keep = torch.rand(codes[:, t].shape, generator=generator) < 0.4
        codes[:, t] = torch.where(keep, codes[:, t - 1], codes[:, t])
    for row, length in zip(codes, lengths):
        row[length:] = -1
    return frames, torch.tensor(lengths), codes


def training_counts(seed: int = 7) -> Counts:
    _, lengths, codes = random_batch([40, 25], seed)
    return counts(codes, lengths, SIZES)


def module(name: str, dim: int = DIM) -> nn.Module:
    """The pooling ``name`` with all that it needs, the same at every call."""
    torch.manual_seed(3)
    options = {}
    if method(name).needs_counts:
        options["counts"] = training_counts()
    if method(name).map is not None:
        size = method(name).output_dim(dim)
        options["statistics"] = fit(name, torch.randn(5 * size, size) @ torch.randn(size, size))
    return build(name, dim, **options)
