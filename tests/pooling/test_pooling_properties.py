"""What holds for every registered pooling; a new one is tested by being registered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pooling_cases import (
    ANYWHERE,
    DIM,
    EVERY,
    LOCAL,
    PAPER,
    SIZES,
    WEIGHTS,
    module,
    padded,
    random_batch,
    training_counts,
    utterances,
)

from s3prl_vqpool.pooling import build, counts, method, pool, weights

LENGTHS = [17, 1, 2, 9, 17]


def scale(pooling: torch.nn.Module) -> float:
    """How far a map spreads rounding errors."""
    return max(1.0, float(pooling.factor.abs().max()) * 10) if hasattr(pooling, "factor") else 1.0


@pytest.mark.parametrize("name", EVERY)
def test_build_output_dim(name):
    frames, lengths, codes = random_batch(LENGTHS)
    pooling = module(name)
    assert pooling.output_dim == method(name).output_dim(DIM) == pooling(frames, lengths, codes).shape[1]


@pytest.mark.parametrize("name", EVERY)
def test_build_batch_equals_one_by_one(name):
    frames, lengths, codes = random_batch(LENGTHS)
    pooling = module(name)
    together = pooling(frames, lengths, codes)
    for i, length in enumerate(LENGTHS):
        one = slice(i, i + 1)
        alone = pooling(frames[one, :length], lengths[one], codes[one, :length])
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=scale(pooling) * 1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_do_not_depend_on_batch(name):
    _, lengths, codes = random_batch(LENGTHS)
    together = weights(name, codes, lengths, counts=training_counts())
    for i, length in enumerate(LENGTHS):
        alone = weights(name, codes[i : i + 1, :length], lengths[i : i + 1], counts=training_counts())
        torch.testing.assert_close(together[i : i + 1, :length], alone, rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("padding", [torch.nan, torch.inf])
def test_build_padding_changes_nothing(name, padding):
    frames, lengths, codes = random_batch(LENGTHS)
    pooling = module(name)
    results = []
    for fill, code in ((0.0, 0), (padding, 10**9)):
        filled, filled_codes = frames.clone(), codes.clone()
        for row, q, length in zip(filled, filled_codes, LENGTHS):
            row[length:], q[length:] = fill, code
        filled.requires_grad_()
        pooling.zero_grad()
        pooled = pooling(filled, lengths, filled_codes)
        pooled.square().sum().backward()
        results.append([pooled, filled.grad, *(p.grad for p in pooling.parameters())])
    for clean, soiled in zip(*results):
        torch.testing.assert_close(soiled, clean, rtol=1e-5, atol=scale(pooling) * 1e-6)
    for row, length in zip(results[1][1], LENGTHS):
        assert not row[length:].any()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0])
@pytest.mark.parametrize("length", [1, 2, 13])
def test_build_constant_input_is_finite(name, value, length):
    frames = torch.full((2, length, DIM), value, requires_grad=True)
    codes = torch.zeros(2, length, 2, dtype=torch.int64)
    pooling = module(name)
    pooled = pooling(frames, torch.tensor([length, 1]), codes)
    (pooled * torch.arange(1.0, pooled.shape[1] + 1)).sum().backward()
    assert pooled.isfinite().all()
    for tensor in (frames, *pooling.parameters()):
        assert tensor.grad.isfinite().all()
    if method(name).map is None:
        expected = torch.full((2, DIM), value)
        torch.testing.assert_close(pooled[:, :DIM], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in EVERY if method(n).map is None])
def test_build_one_frame_is_the_mean(name):
    frames, lengths, codes = random_batch([1, 1, 1])
    torch.testing.assert_close(module(name)(frames, lengths, codes)[:, :DIM], frames[:, 0])


@pytest.mark.parametrize("name", [n for n in EVERY if method(n).multiple == 2 and method(n).map is None])
def test_build_one_frame_has_its_floor_as_deviation(name):
    frames, lengths, codes = random_batch([1, 1])
    floor = {"ASP": 1e-5**0.5, "VAP": 1e-6}.get(name, 1e-5)
    deviation = module(name)(frames, lengths, codes)[:, DIM:]
    torch.testing.assert_close(deviation, torch.full_like(deviation, floor), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ANYWHERE)
def test_build_frame_order_does_not_matter(name):
    frames, lengths, codes = random_batch([11, 11, 11])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    pooling = module(name)
    shuffled = pooling(frames[:, order], lengths, codes[:, order])
    torch.testing.assert_close(shuffled, pooling(frames, lengths, codes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_build_state_dict_carries_everything(name):
    frames, lengths, codes = random_batch(LENGTHS)
    trained, fresh = module(name), build(name, DIM)
    expected = trained(frames, lengths, codes)
    fresh.load_state_dict(trained.state_dict())
    torch.testing.assert_close(fresh(frames, lengths, codes), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_build_gradcheck(name):
    frames, lengths, codes = random_batch([5, 1, 3])
    pooling = module(name).double()
    frames = frames.double().requires_grad_()
    torch.manual_seed(0)
    # VAP's deviation of one frame is clamped at 1e-6, below the step of finite differences.
    inputs = frames if name != "VAP" else frames[[0, 2]].detach().requires_grad_()
    kept = lengths if name != "VAP" else lengths[[0, 2]]
    kept_codes = codes if name != "VAP" else codes[[0, 2]]
    parameters = tuple(pooling.parameters())

    def run(x, *_):
        return pooling(x, kept, kept_codes)

    assert torch.autograd.gradcheck(run, (inputs, *parameters), atol=1e-4)


@pytest.mark.parametrize("name", WEIGHTS)
@settings(max_examples=50, deadline=None)
@given(batch=utterances())
def test_weights_sum_to_one(name, batch):
    codes, sizes = batch
    w = weights(name, *padded(codes), counts=counts(*padded(codes), sizes))
    torch.testing.assert_close(w.sum(dim=1), torch.ones(len(codes)))
    for row, q in zip(w, codes):
        assert (row[: len(q)] >= 0).all()
        assert name not in PAPER or (row[: len(q)] > 0).all()
        assert not row[len(q) :].any()


@pytest.mark.parametrize("name", PAPER)
@settings(max_examples=50, deadline=None)
@given(batch=utterances(), data=st.data())
def test_weights_merging_equal_neighbours_never_raises_joint_weight(name, batch, data):
    codes, sizes = batch
    q = codes[0]
    t = data.draw(st.integers(0, len(q) - 1))
    twice, once = q[: t + 1] + q[t:], q
    seen = counts(*padded(codes), sizes)
    before = weights(name, *padded([twice]), counts=seen)[0]
    after = weights(name, *padded([once]), counts=seen)[0]
    assert after[t] <= (before[t] + before[t + 1]) * (1 + 1e-6)


@pytest.mark.parametrize("name", LOCAL)
@settings(max_examples=50, deadline=None)
@given(batch=utterances(), data=st.data())
def test_weights_names_of_entries_do_not_matter(name, batch, data):
    codes, sizes = batch
    high = data.draw(st.sampled_from([6, 1000, 2**31 - 1, 2**63 - 1]))
    names = [
        data.draw(st.lists(st.integers(0, high), min_size=size, max_size=size, unique=True)) for size in sizes
    ]
    renamed = [[tuple(names[g][v] for g, v in enumerate(frame)) for frame in q] for q in codes]
    torch.testing.assert_close(
        weights(name, *padded(renamed)), weights(name, *padded(codes)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("name", PAPER)
@settings(max_examples=50, deadline=None)
@given(batch=utterances())
def test_pool_duplicating_every_frame_changes_nothing(name, batch):
    codes, sizes = batch
    seen = counts(*padded(codes), sizes)
    batch_codes, lengths = padded(codes)
    frames = torch.randn(*batch_codes.shape[:2], 3, generator=torch.Generator().manual_seed(0))
    once = pool(frames, weights(name, batch_codes, lengths, counts=seen))
    twice = weights(name, batch_codes.repeat_interleave(2, dim=1), lengths * 2, counts=seen)
    torch.testing.assert_close(pool(frames.repeat_interleave(2, dim=1), twice), once, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_weights_integer_dtype_does_not_matter(name, dtype):
    _, lengths, codes = random_batch(LENGTHS)
    expected = weights(name, codes, lengths, counts=training_counts())
    narrow = weights(name, codes.clamp_min(0).to(dtype), lengths.int(), counts=training_counts())
    torch.testing.assert_close(narrow, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LOCAL)
@settings(max_examples=25, deadline=None)
@given(batch=utterances())
def test_weights_huge_product_of_sizes(name, batch):
    """Many large codebooks, whose index tuples do not fit one int64."""
    codes, _ = batch
    assume(len(codes[0]) > 1)
    repeated = [[frame * 7 for frame in q] for q in codes]
    spread = [[tuple(v * 1000 for v in frame) for frame in q] for q in repeated]
    if name not in ("VQ-LP", "AP", "mean"):
        torch.testing.assert_close(
            weights(name, *padded(spread)), weights(name, *padded(codes)), rtol=1e-6, atol=0
        )
    torch.testing.assert_close(
        weights(name, *padded(spread)), weights(name, *padded(repeated)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pool_keeps_dtype(dtype):
    frames, lengths, codes = random_batch(LENGTHS)
    w = weights("VQ-LP", codes, lengths, sizes=SIZES)
    pooled = pool(frames.to(dtype), w)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.float(), pool(frames, w), rtol=0.02, atol=0.02)


def test_pool_real_nan_is_kept():
    frames = torch.zeros(1, 3, 2)
    frames[0, 1, 0] = torch.nan
    pooled = pool(frames, torch.tensor([[0.5, 0.5, 0.0]]))
    assert pooled[0].isnan().tolist() == [True, False]


def test_pool_gradient_of_weights_does_not_see_padding():
    frames = torch.tensor([[[1.0], [2.0], [torch.nan]]])
    w = torch.tensor([[0.25, 0.75, 0.0]], requires_grad=True)
    pool(frames, w).sum().backward()
    assert w.grad.tolist() == [[1.0, 2.0, 0.0]]


@pytest.mark.parametrize("padding", [7.0, torch.nan])
def test_weights_of_0_have_no_gradient(padding: float) -> None:
    frames = torch.tensor([[[1.0, 2.0], [3.0, 5.0], [padding, padding]]], requires_grad=True)
    w = torch.tensor([[0.25, 0.75, 0.0]], requires_grad=True)
    pooled = pool(frames, w)
    torch.testing.assert_close(pooled, torch.tensor([[2.5, 4.25]]))
    pooled.sum().backward()
    assert w.grad.tolist() == [[3, 8, 0]]
    assert frames.grad.tolist() == [[[0.25] * 2, [0.75] * 2, [0] * 2]]
