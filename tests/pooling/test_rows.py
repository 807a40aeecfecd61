"""Blocks of real frames: what they hold, and the operations over the frames of each utterance, by a loop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from s3prl_vqpool.pooling import rows

DIM = 5
CASES = [
    [7, 1, 2, 9, 7, 33],  # several at once, and alone
    [70, 33, 64, 65, 32, 31],  # around the runs of a sum
    [16, 16, 16],
    [6] * 9,
    [40],
]


def batch(lengths: Sequence[int]) -> Tensor:
    """Frames [B, T, D], whose padding is NaN; T is 3 more than the longest."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(len(lengths), max(lengths) + 3, DIM, generator=generator, dtype=torch.float64)
    for row, length in zip(frames, lengths):
        row[length:] = torch.nan
    return frames


def blocks(frames: Tensor, lengths: Sequence[int]) -> list[tuple[rows.Group, Tensor]]:
    groups = rows.groups(torch.tensor(lengths), frames)
    return [(group, block.clone()) for group, block in rows.blocks(groups, frames)]


@pytest.fixture(params=[1, 20, 150])
def frames_at_once(request, monkeypatch):
    monkeypatch.setattr(rows, "AT_ONCE", request.param * DIM)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return request.param


@pytest.mark.parametrize("lengths", CASES)
def test_blocks_hold_real_frames_and_then_zeros(lengths, frames_at_once):
    frames, seen = batch(lengths), []
    for group, block in blocks(frames, lengths):
        own = range(len(lengths))[group.some]
        assert len(own) == 1 or group.count <= 1.5 * frames_at_once
        assert len(block) % 16 == 0
        assert len(block) - group.count <= 16
        assert not block[group.count :].any()
        assert torch.equal(block[: group.count], torch.cat([frames[b, : lengths[b]] for b in own]))
        seen += own
    assert seen == list(range(len(lengths)))


def test_groups_are_filled(frames_at_once):
    def groups(lengths: Sequence[int]) -> list[int]:
        found = rows.groups(torch.tensor(lengths), batch(lengths))
        return [len(range(len(lengths))[group.some]) for group in found]

    assert groups([7, 1, 2, 9, 7, 6, 5, 33]) == {1: [1] * 8, 20: [4, 3, 1], 150: [8]}[frames_at_once]
    assert groups([8] * 5) == {1: [1] * 5, 20: [2, 2, 1], 150: [5]}[frames_at_once]
    assert groups([6] * 40) == {1: [1] * 40, 20: [3] * 13 + [1], 150: [32, 8]}[frames_at_once]
    assert groups([4] * 9) == {1: [1] * 9, 20: [5, 4], 150: [9]}[frames_at_once]


def test_frames_that_are_whole_blocks_are_not_copied():
    for length, height, copied in ((8, 48, False), (7, 48, True)):  # of 6 * 7 rows, 6 are missing
        frames = torch.randn(6, length, DIM)
        groups = rows.groups(torch.full((6,), length), frames)
        ((_, block),) = rows.blocks(groups, frames)
        assert len(block) == height
        assert (block.data_ptr() != frames.data_ptr()) == copied


@pytest.mark.parametrize("lengths", CASES)
def test_operations_over_the_frames_of_each_utterance(lengths, frames_at_once):
    frames = batch(lengths)
    weights = torch.rand(len(lengths), frames.size(1), 1, dtype=torch.float64)
    each = torch.randn(len(lengths), DIM, dtype=torch.float64)
    for group, block in blocks(frames, lengths):
        own = range(len(lengths))[group.some]
        values = group.values(block)
        w = group.values(torch.cat([weights[b, : lengths[b]] for b in own]))
        for found, wanted in (
            (group.sums(values), [frames[b, : lengths[b]].sum(0) for b in own]),
            (group.sums(values, w), [weights[b, : lengths[b], 0] @ frames[b, : lengths[b]] for b in own]),
            (group.sums(w), [weights[b, : lengths[b]].sum(0) for b in own]),
        ):
            assert_close(found, torch.stack(wanted))
        for found, parts in (
            (group.softmax(values), [frames[b, : lengths[b]].softmax(0) for b in own]),
            (group.softmax(w), [weights[b, : lengths[b]].softmax(0) for b in own]),
            (group.of(each) * values, [each[b] * frames[b, : lengths[b]] for b in own]),
            (group.spread(each[group.some]) + values, [each[b] + frames[b, : lengths[b]] for b in own]),
        ):
            assert_close(found.reshape(group.count, -1), torch.cat(parts))


@pytest.mark.parametrize("lengths", CASES)
def test_blocks_are_written_where_they_come_from(lengths, frames_at_once):
    frames = batch(lengths)
    back = torch.full_like(frames, 7)
    for group, block in blocks(frames, lengths):
        values = group.values(block).clone()
        group.write(block, torch.full_like(values[..., :1], 2), values, back)
    assert_close(back, 3 * frames.nan_to_num(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products(dtype):
    generator = torch.Generator().manual_seed(0)
    x, y, bias = (torch.randn(*size, generator=generator, dtype=dtype) for size in ((48, 7), (9, 7), (9,)))
    assert_close(rows.product(x, y), x @ y.T)
    assert_close(rows.product(x, y, bias), x @ y.T + bias)
    assert_close(rows.product(x, y, bias, tanh=True), torch.tanh(x @ y.T + bias))
    total = torch.ones(7, 7, dtype=dtype)
    rows.add_product(total, x, x)
    assert_close(total, 1 + x.T @ x)
    long = torch.randn(1040, 7, generator=generator, dtype=dtype)
    rows.add_product(total, long, long)
    assert_close(total, 1 + x.T @ x + long.T @ long, rtol=1e-5, atol=1e-3 if dtype == torch.float32 else 1e-9)
