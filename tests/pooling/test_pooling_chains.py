"""The chains that make grouping slow: the work must grow with log2(T), and the groups must be right."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pooling_loops
import pytest
import torch
from hypothesis import given, settings
from pooling_cases import padded, utterances

from s3prl_vqpool.pooling import components, runs, weights
from s3prl_vqpool.pooling.batch import Batch

T = 4096


def chain(frames: int, order: torch.Tensor, codebooks: int = 2) -> torch.Tensor:
    """Frames in ``order`` form one path, whose links lie in each codebook in turn: [1, T, G]."""
    codes = torch.zeros(1, frames, codebooks, dtype=torch.int64)
    place = torch.empty(frames, dtype=torch.int64)
    place[order] = torch.arange(frames)
    for g in range(codebooks):
        codes[0, :, g] = (place + codebooks - 1 - g) // codebooks
    return codes


def shuffled(frames: int, seed: int) -> torch.Tensor:
    return torch.randperm(frames, generator=torch.Generator().manual_seed(seed))


def alternating(frames: int) -> torch.Tensor:
    """Ends first: 0, T - 1, 1, T - 2, ... so that every second frame is a local minimum."""
    order = torch.empty(frames, dtype=torch.int64)
    order[0::2], order[1::2] = torch.arange(frames // 2), torch.arange(frames - 1, frames // 2 - 1, -1)
    return order


def bit_reversed(frames: int) -> torch.Tensor:
    order = torch.zeros(1, dtype=torch.int64)
    while len(order) < frames:
        order = torch.cat([2 * order, 2 * order + 1])
    return order


ORDERS = {
    "ascending": torch.arange,
    "descending": lambda n: torch.arange(n).flip(0),
    "alternating": alternating,
    "bit_reversed": bit_reversed,
    "shuffled_0": lambda n: shuffled(n, 0),
    "shuffled_1": lambda n: shuffled(n, 1),
    "blocks_shuffled": lambda n: (shuffled(n // 64, 2)[:, None] * 64 + torch.arange(64)).flatten(),
}


def found(codes: torch.Tensor) -> torch.Tensor:
    """Labels of the components, which took few rounds of hooking and few jumps of pointers."""
    batch = Batch.checked(codes, torch.tensor([codes.shape[1]] * len(codes)))
    with (
        patch.object(components, "_hooks", wraps=components._hooks) as hooks,
        patch.object(components.torch, "equal", wraps=torch.equal) as comparisons,
    ):
        labels = components.connected_components(batch)
    bound = math.log2(codes.shape[1]) + 1
    rounds = hooks.call_count - 1  # the last one finds nothing
    jumps = comparisons.call_count - hooks.call_count - rounds  # each search for roots compares once more
    assert 0 <= rounds <= bound
    assert rounds + jumps <= 3 * bound
    return labels


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("codebooks", [2, 3, 5])
def test_components_of_one_long_chain(order, codebooks):
    labels = found(chain(T, ORDERS[order](T), codebooks))
    assert (labels == labels[0, 0]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_components_of_a_broken_chain(order):
    """One frame of the path taken out leaves two groups, one for each side."""
    path = ORDERS[order](T)
    codes = chain(T, path)
    gap = T // 3
    codes[0, path[gap]] = T  # its own entry in both codebooks
    labels = found(codes)[0][path]
    assert labels[:gap].unique().numel() == labels[gap + 1 :].unique().numel() == 1
    assert labels[[0, gap, T - 1]].unique().numel() == 3


@pytest.mark.parametrize("codebooks", [2, 3])
def test_components_of_a_tree_of_chains(codebooks):
    """Every tournament's winner meets the next winner: as many halvings as there can be."""
    codes = torch.arange(T * codebooks).view(1, T, codebooks).clone()
    order = shuffled(T, 4)
    for level in range(int(math.log2(T))):
        g = level % codebooks
        for left, right in order.view(-1, 2 << level)[:, [0, 1 << level]].tolist():
            codes[0, right, g] = codes[0, left, g]
    found(codes)


def test_components_rounds_hold_for_a_batch():
    codes = torch.cat([chain(T, ORDERS[order](T)) for order in ORDERS])
    labels = found(codes)
    assert (labels == labels[:, :1]).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(60, 60), (90, 90, 90)])
def test_components_near_the_threshold_reference(seed, sizes):
    """About as many entries as frames: components of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(size, (1, 60), generator=generator) for size in sizes], dim=2)
    expected = pooling_loops.all_squash_or([tuple(q) for q in codes[0].tolist()])
    labels = found(codes)[0].tolist()
    groups = [[t for t in range(60) if labels[t] == label] for label in dict.fromkeys(labels)]
    assert groups == expected


def turns(frames: int, codebooks: int) -> torch.Tensor:
    """One run that the codebooks keep alive in turn, its last frame excepted."""
    codes = torch.arange(1, frames * codebooks + 1).view(1, frames, codebooks).clone()
    codes[0, 0] = 0
    for t in range(frames - 1):
        codes[0, t, t % codebooks] = 0
    return codes


@pytest.mark.parametrize("codebooks", [2, 3, 4])
def test_first_frame_runs_codebooks_in_turn(codebooks):
    w = weights("VQ-Squash-OR@code", turns(T, codebooks), torch.tensor([T]))
    expected = torch.full((1, T), 0.5 / (T - 1))
    expected[0, -1] = 0.5
    torch.testing.assert_close(w, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 3), (4, 5, 6, 7)])
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_first_frame_runs_bisection_reference(monkeypatch, seed, sizes, steps):
    monkeypatch.setattr(runs, "STEPS", steps)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([70, 33, 1])
    codes = torch.stack([torch.randint(size, (3, 70), generator=generator) for size in sizes], dim=2)
    labels = runs.first_frame_runs(Batch.checked(codes, lengths)).tolist()
    for row, q, length in zip(labels, codes.tolist(), lengths.tolist()):
        expected = pooling_loops.squash_or_code([tuple(frame) for frame in q[:length]])
        assert row[:length] == [k for k, group in enumerate(expected) for _ in group]


def test_weights_memory_does_not_follow_the_codebooks():
    """Hash-like codes: tables of their size could not be allocated."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(2**62, (2, 500, 3), generator=generator)
    codes[:, 1::2] = codes[:, ::2]
    lengths = torch.tensor([500, 300])
    for name in ("VQ-Squash-AND", "VQ-AllSquash-AND", "VQ-AllSquash-OR", "VQ-LP"):
        w = weights(name, codes, lengths)
        expected = (torch.arange(500) < lengths[:, None]) / lengths[:, None]
        torch.testing.assert_close(w, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("turns", "bisections"), [(9, 0), (10, 1)])
def test_eight_turns_of_codebooks_are_looked_up_and_more_are_bisected(turns: int, bisections: int) -> None:
    """One run in which the codebooks take turns at every frame: the first two turns are looked up before."""
    codes = torch.zeros(1, turns + 1, 2, dtype=torch.int64)
    for t in range(1, turns + 1):
        codes[0, t, t % 2] = t
    with patch.object(runs, "_bisected", wraps=runs._bisected) as bisected:
        assert not runs.first_frame_runs(Batch.checked(codes, torch.tensor([turns + 1]))).any()
    assert bisected.call_count == bisections


@pytest.mark.parametrize("steps", [0, 1])
@settings(max_examples=200, deadline=None)
@given(batch=utterances())
def test_bisection_alone_finds_the_runs(steps: int, batch: Any) -> None:
    """Also at the end of an utterance, where the next entry of a table begins."""
    codes, _ = batch
    with patch.object(runs, "STEPS", steps):
        w = weights("VQ-Squash-OR@code", *padded(codes))
    for row, q in zip(w.tolist(), codes):
        assert row[: len(q)] == pytest.approx(pooling_loops.weights("VQ-Squash-OR@code", q), rel=1e-5)
