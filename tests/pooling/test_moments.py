"""The weighted standard deviation beside the mean: loops, cases by hand, gradients."""

from __future__ import annotations

import pooling_loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling_cases import DIM, WEIGHTS, module, random_batch, training_counts
from torch.testing import assert_close

from s3prl_vqpool.pooling import build, mean_and_deviation, method, moments, points, weights

LENGTHS = [17, 1, 2, 9, 17]


def test_deviation_by_hand() -> None:
    """Weights 1/2, 1/4, 1/4 of 0, 4, 8: mean 3; (9 + 1 + 25) / ... = 4.5 + 0.25 + 6.25 = 11, over 1 - 3/8."""
    frames, w = torch.tensor([[[0.0], [4.0], [8.0]]]), torch.tensor([[0.5, 0.25, 0.25]])
    assert_close(mean_and_deviation(frames, w), torch.tensor([[3.0, (11 / 0.625) ** 0.5 + 1e-5]]))


def test_deviation_of_two_frames_is_that_of_equal_weights_whatever_they_are() -> None:
    """For reliability weights the estimate from two values is |x - y| / sqrt(2)."""
    frames = torch.tensor([[[1.0], [4.0]]])
    for share in (0.5, 0.1, 1e-3, 1e-6):
        found = mean_and_deviation(frames, torch.tensor([[share, 1 - share]]))[0, 1]
        assert_close(found, torch.tensor(3 / 2**0.5 + 1e-5), rtol=1e-3, atol=0)


@pytest.mark.parametrize("w", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1e-45, 0.0]])
def test_one_frame_with_all_the_weight_has_no_deviation(w: list[float]) -> None:
    frames = torch.tensor([[[3.0], [-7.0], [5.0]]], requires_grad=True)
    found = mean_and_deviation(frames, torch.tensor([w]))
    found.sum().backward()
    assert found[0, 1] == 1e-5
    assert_close(frames.grad[0, :, 0], torch.tensor(w))


@pytest.mark.parametrize("name", WEIGHTS)
def test_deviation_reference(name: str) -> None:
    frames, lengths, codes = random_batch(LENGTHS)
    counts = {"counts": training_counts()} if method(name).needs_counts else {}
    w = weights(name, codes, lengths, **counts).tolist()
    rows = zip(frames.tolist(), w, LENGTHS)
    expected = [pooling_loops.weighted_deviation(h[:n], each[:n]) for h, each, n in rows]
    found = module(f"{name}+std")(frames, lengths, codes)
    assert_close(found[:, DIM:], torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert torch.equal(found[:, :DIM], module(name)(frames, lengths, codes))


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(st.tuples(st.floats(-100, 100), st.floats(1e-3, 1)), min_size=1, max_size=20),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    offset=st.sampled_from([0.0, -1000.0]),
)
def test_deviation_reference_of_any_weights(values: list, scale: float, offset: float) -> None:
    """Also far from 0, where the mean of squares minus the square of the mean would cancel."""
    w = torch.tensor([[each for _, each in values]])
    w = w / w.sum()
    frames = torch.tensor([[[x * scale + offset] for x, _ in values]])
    expected = pooling_loops.weighted_deviation(frames[0].tolist(), w[0].tolist())
    found = mean_and_deviation(frames, w)[0, 1:]
    divisor = 1 - float(w.double().square().sum())
    rounding = 5e-7 * float(frames.abs().max()) / max(divisor, 1e-12) ** 0.5  # of the mean, in float32
    assert_close(found, torch.tensor(expected), rtol=2e-3, atol=1e-6 + rounding)


def test_the_mean_of_equal_weights_and_sp_agree_but_for_rounding() -> None:
    frames, lengths, _ = random_batch([9, 1, 2, 5])
    assert method("SP").spec == "AP+std"
    assert_close(
        build("AP+std", DIM)(frames, lengths), build("SP", DIM)(frames, lengths), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_deviation_keeps_dtype_and_does_not_overflow(dtype: torch.dtype) -> None:
    frames, lengths, codes = random_batch(LENGTHS)
    frames = frames * 300  # squares are beyond float16
    w = weights("VQ-LP", codes, lengths)
    found = mean_and_deviation(frames.to(dtype), w)
    assert found.dtype == dtype
    assert_close(found.float(), mean_and_deviation(frames, w), rtol=0.02, atol=2)


@pytest.mark.parametrize("utterances", [1, 2, 3])
def test_deviation_and_its_gradient_in_blocks_equal_those_at_once(
    monkeypatch: pytest.MonkeyPatch, utterances: int
) -> None:
    frames, lengths, codes = random_batch(LENGTHS)
    w, frames = weights("VQ-LP", codes, lengths), frames.requires_grad_()
    weight = torch.randn(len(LENGTHS), 2 * DIM, generator=torch.Generator().manual_seed(0))
    found = []
    for at_once in (2**18, utterances * frames[0].numel() // torch.get_num_threads() + 1):
        monkeypatch.setattr("s3prl_vqpool.pooling.moments.AT_ONCE", at_once)
        pooled = mean_and_deviation(frames, w)
        found.append((pooled, *torch.autograd.grad((pooled * weight).sum(), frames)))
    for at_once, in_blocks in zip(*found):
        assert_close(in_blocks, at_once, rtol=1e-6, atol=1e-6)


def test_deviation_second_derivative() -> None:
    frames, lengths, codes = random_batch([5, 3, 4])
    w = weights("VQ-LP", codes, lengths).double()
    w = w / w.sum(dim=1, keepdim=True)  # the formula takes weights that sum to 1, in float64 too
    frames = frames.double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: mean_and_deviation(x, w), (frames,))
    found = mean_and_deviation(frames, w)
    total = (found * torch.arange(found.numel()).view_as(found)).sum()
    (kept,) = torch.autograd.grad(total, frames, create_graph=True)  # both ways to the first derivative agree
    (plain,) = torch.autograd.grad(total, frames)
    assert_close(kept, plain)


@pytest.mark.parametrize("at_once", [1, 2**18])
def test_padding_and_frames_without_weight_do_not_count(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal and unequal weights, with frames of no weight at the end, within and at the start."""
    monkeypatch.setattr("s3prl_vqpool.pooling.moments.AT_ONCE", at_once)
    w = torch.tensor([[1.0, 1, 1, 0, 0], [1, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 2, 3, 0, 0], [1, 1, 1, 1, 1]])
    w = w / w.sum(dim=1, keepdim=True)
    frames = torch.randn(5, 5, 2, generator=torch.Generator().manual_seed(0)) + 3
    expected = torch.stack([mean_and_deviation(h[a > 0][None], a[a > 0][None])[0] for h, a in zip(frames, w)])
    by_hand = torch.stack([h[a > 0].std(dim=0) for h, a in zip(frames, w)])[[0, 1, 2, 4]]
    assert_close(expected[[0, 1, 2, 4], 2:], by_hand + 1e-5)
    frames[w == 0] = torch.nan
    frames.requires_grad_()
    found = mean_and_deviation(frames, w)
    found.sum().backward()
    assert_close(found, expected)
    assert not frames.grad[w == 0].any()


def test_points_are_the_product() -> None:
    """Weights x (mean, mean and deviation) x (nothing, three maps)."""
    assert len(set(points())) == len(points()) == len(WEIGHTS) * 2 * 4
    assert {"VQ-LP", "AP+std", "VQ-BP|whitening", "mean+std|softdecay"} <= set(points())


@pytest.mark.parametrize(
    ("shape", "utterances"),
    [((9, 1024, 64), 4), ((9, 1024, 256), 1), ((9, 1024, 257), 1), ((9, 4096, 256), 1), ((9, 1024, 85), 3)],
)
def test_a_thread_works_on_a_mebibyte_at_once(
    shape: tuple[int, ...], utterances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, w = torch.empty(1).expand(shape), torch.ones(shape[:2])
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found, ends = moments._blocks(frames, w)
        assert found == max(1, threads * 2**18 // (shape[1] * shape[2]))
        assert ends == [shape[1]] * -(-shape[0] // found)
        if threads == 1:
            assert found == utterances
        assert moments._blocks(frames.to("meta"), w) == (shape[0], [shape[1]])
