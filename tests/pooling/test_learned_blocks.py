"""Learned poolings and SP block by block on a CPU: the same as in one batch of torch's own operations."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from s3prl_vqpool.pooling import attended, build, published, rows

LENGTHS = [17, 1, 2, 9, 17, 33]
NAMES = ("SP", "SAP", "ASP", "VAP")
LEARNED = NAMES[1:]
DIM = 24


@contextmanager
def batched() -> Iterator[None]:
    """Nothing is worked on in blocks."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (attended, published):
            patch.setattr(module, "usable", lambda frames: False)
        yield


def batch(dtype: torch.dtype = torch.float32, lengths: Sequence[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Frames [B, T, D], whose padding is NaN, and lengths."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(len(lengths), max(lengths), DIM, generator=generator, dtype=dtype) * 2 + 1
    for row, length in zip(frames, lengths):
        row[length:] = torch.nan
    return frames, torch.tensor(lengths)


def module(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    return build(name, DIM).to(dtype)


def results(pooling: nn.Module, frames: Tensor, lengths: Tensor) -> list[Tensor]:
    """Pooled vectors, and gradients of the frames and of the parameters."""
    frames = frames.clone().requires_grad_()
    pooled = pooling(frames, lengths)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2)).to(pooled.dtype)
    inputs = (frames, *pooling.parameters())
    return [pooled.detach(), *torch.autograd.grad((pooled * weight).sum(), inputs)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames_at_once", [1, 20, 1000])
@pytest.mark.parametrize(
    "lengths",
    [LENGTHS, [16] * 6, [17] * 6, [*[9] * 5, 33], [40, 70, 33, 64, 65]],
    ids=["mixed", "whole", "odd", "pairs", "long"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_blocks_give_what_a_batch_gives(name, frames_at_once, lengths, dtype, tolerance, monkeypatch):
    at_once = frames_at_once * DIM // torch.get_num_threads() + 1
    for place in (rows, published):
        monkeypatch.setattr(place, "AT_ONCE", at_once)
    if name == "SP" and dtype == torch.float64:
        tolerance = 1e-8  # AP's weights are float32: their sum is 1 but for rounding
    pooling, (frames, lengths) = module(name, dtype), batch(dtype, lengths)
    found = results(pooling, frames, lengths)
    with batched():
        expected = results(pooling, frames, lengths)
    for each, other in zip(found, expected):
        assert_close(each, other, rtol=tolerance, atol=tolerance * float(other.abs().max().clamp_min(0.3)))


@pytest.mark.parametrize("name", NAMES)
def test_frames_in_any_layout(name):
    pooling, (frames, lengths) = module(name), batch()
    expected = results(pooling, frames, lengths)
    by_channel = frames.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    by_time = frames.transpose(0, 1).contiguous().transpose(0, 1)
    for each in (by_channel, by_time, torch.cat([frames, frames], dim=1)[:, : frames.size(1)]):
        assert not each.is_contiguous()
        found = pooling(each.requires_grad_(), lengths)
        weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
        (by_frames,) = torch.autograd.grad((found * weight).sum(), each)
        assert_close([found.detach(), by_frames], expected[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 300, 200), (3, 701, 96), (9, 40, 768), (20, 100, 24), (5, 60, 1)])
@pytest.mark.parametrize("padded", [False, True])
def test_sp_has_the_bits_of_the_published_arithmetic(shape, dtype, padded):
    frames = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 3 + 1
    lengths = torch.linspace(1 if padded else shape[1], shape[1], shape[0]).long()
    for row, length in zip(frames, lengths):
        row[length:] = torch.nan
    pooling = build("SP", shape[2])
    found = pooling(frames, lengths)
    with batched():
        assert torch.equal(found, pooling(frames, lengths))


@pytest.mark.parametrize("name", LEARNED)
def test_float32_is_as_close_to_float64_as_a_batch_is(name):
    frames, lengths = batch()
    found = results(module(name), frames, lengths)
    with batched():
        plain = results(module(name), frames, lengths)
        exact = results(module(name, torch.float64), frames.double(), lengths)
    for each, other, right in zip(found, plain, exact):
        error, allowed = (each - right).abs().max(), (other - right).abs().max()
        assert error <= 2 * allowed + 1e-6 * right.abs().max() + 1e-6


def test_the_gradient_of_the_bias_is_a_sum_that_nearly_cancels():
    """By the scores of an utterance the gradients add up to 0; what rounding leaves would be most of the error."""
    errors = []
    for seed in range(6):
        torch.manual_seed(seed)
        frames, lengths, pooling = (
            torch.randn(3, 500, 96) + 1,
            torch.tensor([250, 375, 500]),
            build("SAP", 96),
        )
        exact = copy.deepcopy(pooling).double()
        place = [name for name, _ in pooling.named_parameters()].index("sap_linear.bias") + 2
        found = results(pooling, frames, lengths)[place]
        with batched():
            right = results(exact, frames.double(), lengths)[place]
        errors.append((found - right).abs().max() / right.abs().max())
    assert sum(errors) / len(errors) < 8e-7


@pytest.mark.parametrize("name", NAMES)
def test_only_the_gradients_that_are_asked_for(name):
    pooling, (frames, lengths) = module(name), batch()
    weights = results(pooling, frames, lengths)[2:]
    pooled = pooling(frames, lengths)  # of frames that need none
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
    if weights:
        (pooled * weight).sum().backward()
        assert_close([each.grad for each in pooling.parameters()], weights)
    by_frames = results(pooling, frames, lengths)[1]
    pooling.requires_grad_(False)
    frames.requires_grad_()
    (pooling(frames, lengths) * weight).sum().backward()
    assert_close(frames.grad, by_frames)
    with torch.no_grad():
        assert not pooling(frames, lengths).requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative(name):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    torch.manual_seed(1)
    pooling, lengths = (
        build(name, 3, **({"hidden": 2} if name == "VAP" else {})).double(),
        torch.tensor([4, 3]),
    )
    inputs = (frames, *pooling.parameters())

    def run(x: Tensor, *_: Tensor) -> Tensor:
        return pooling(x, lengths)

    assert torch.autograd.gradgradcheck(run, inputs, atol=1e-4)
    total = (pooling(frames, lengths) * torch.arange(1.0, 1 + 2 * pooling.output_dim).view(2, -1)).sum()
    kept = torch.autograd.grad(total, inputs, create_graph=True)  # both ways to the first derivative agree
    assert_close(kept, torch.autograd.grad(total, inputs))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bad_frame_spoils_its_own_utterance_alone(name, value):
    pooling, (frames, lengths) = module(name), batch()
    clean = results(pooling, frames, lengths)
    frames[3, 0] = value
    found = results(pooling, frames, lengths)
    others = [0, 1, 2, 4, 5]
    assert not found[0][3].isfinite().all()
    assert_close([each[others] for each in found[:2]], [each[others] for each in clean[:2]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_torchs_own(name, dtype):
    pooling, (frames, lengths) = module(name, dtype), batch(dtype)
    found = pooling(frames, lengths)
    with batched():
        assert torch.equal(found, pooling(frames, lengths))
    assert found.dtype == dtype


@pytest.mark.parametrize("name", LEARNED)
def test_autocast_is_torchs_own(name):
    pooling, (frames, lengths) = module(name), batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = pooling(frames, lengths)
        with batched():
            assert torch.equal(found, pooling(frames, lengths))
    assert not torch.equal(found.float(), pooling(frames, lengths))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_torch_func(name):
    pooling, (frames, lengths) = module(name), batch()
    expected = results(pooling, frames, lengths)[1]
    weight = torch.randn(len(LENGTHS), pooling.output_dim, generator=torch.Generator().manual_seed(2))
    found = torch.func.grad(lambda x: (pooling(x, lengths) * weight).sum())(frames)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
