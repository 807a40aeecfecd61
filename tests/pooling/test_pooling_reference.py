"""Agreement with the paper's figure and with plain loops."""

from __future__ import annotations

import pooling_loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling_cases import PAPER, padded, random_batch, utterances

from s3prl_vqpool.pooling import build, counts, weights

FIGURE_B = [(1, 2), (1, 1), (2, 1), (3, 2), (3, 2)]
FIGURE_CD = [(3, 1), (1, 2), (2, 2), (3, 1), (4, 2)]


@pytest.mark.parametrize(
    ("name", "codes", "expected"),
    [
        ("VQ-Squash-AND", FIGURE_B, [1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8]),
        ("VQ-Squash-OR", FIGURE_B, [1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4]),
        ("VQ-Squash-OR@code", FIGURE_B, [1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6]),
        ("VQ-AllSquash-AND", FIGURE_CD, [1 / 8, 1 / 4, 1 / 4, 1 / 8, 1 / 4]),
        ("VQ-AllSquash-OR", FIGURE_CD, [1 / 4, 1 / 6, 1 / 6, 1 / 4, 1 / 6]),
        # counts: (2, 2) (1, 3) (1, 3) (2, 2) (1, 3): all sums are 4
        ("VQ-LP", FIGURE_CD, [1 / 5] * 5),
        # counts: (2, 3) (2, 2) (1, 2) (2, 3) (2, 3): 1/5 1/4 1/3 1/5 1/5, sum 71/60
        ("VQ-LP", FIGURE_B, [12 / 71, 15 / 71, 20 / 71, 12 / 71, 12 / 71]),
    ],
)
def test_weights_figure_1(name, codes, expected):
    w = weights(name, torch.tensor([codes]), torch.tensor([5]))
    torch.testing.assert_close(w, torch.tensor([expected]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", PAPER)
@settings(max_examples=150, deadline=None)
@given(batch=utterances(), data=st.data())
def test_weights_reference(name, batch, data):
    codes, sizes = batch
    frame = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    training = data.draw(st.lists(frame, min_size=1, max_size=20))
    seen = counts(*padded([training]), sizes)
    options = {"a": 0.02} if name == "VQ-SIF" else {}
    w = weights(name, *padded(codes), counts=seen, **options)
    for row, q in zip(w.tolist(), codes):
        expected = pooling_loops.weights(name, q, training, a=0.02)
        assert row == pytest.approx(expected + [0] * (len(row) - len(q)), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["VQ-Squash-OR@code", "VQ-AllSquash-OR", "VQ-AllSquash-AND"])
@pytest.mark.parametrize("sizes", [(3,), (4, 60), (30, 30, 30)])
def test_weights_reference_long(name, sizes):
    _, lengths, codes = random_batch([150, 90, 1], sizes=sizes)
    w = weights(name, codes, lengths)
    for row, q, length in zip(w.tolist(), codes.tolist(), lengths.tolist()):
        expected = pooling_loops.weights(name, [tuple(frame) for frame in q[:length]])
        assert row[:length] == pytest.approx(expected, rel=1e-5)


def utterance_frames(frames, lengths):
    return [row[:length].tolist() for row, length in zip(frames, lengths.tolist())]


def test_statistics_reference():
    frames, lengths, _ = random_batch([9, 1, 2, 5])
    expected = [pooling_loops.mean_and_deviation(h) for h in utterance_frames(frames, lengths)]
    torch.testing.assert_close(build("SP", 6)(frames, lengths), torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SAP", "ASP"])
def test_self_attention_reference(name):
    frames, lengths, _ = random_batch([9, 1, 2, 5])
    module = build(name, 6)
    linear = module.sap_linear
    expected = []
    for h in utterance_frames(frames, lengths):
        attention = module.attention.flatten().tolist()
        w = pooling_loops.self_attention(h, linear.weight.tolist(), linear.bias.tolist(), attention)
        expected.append(pooling_loops.weighted_moments(h, [[x] * 6 for x in w], 1e-5)[: module.output_dim])
    torch.testing.assert_close(module(frames, lengths), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_channel_attention_reference():
    frames, lengths, _ = random_batch([9, 4, 2, 5])
    module = build("VAP", 6, hidden=4)
    parameters = [p.squeeze(-1).tolist() if p.ndim == 3 else p.tolist() for p in module.parameters()]
    expected = []
    for h in utterance_frames(frames, lengths):
        w = pooling_loops.channel_attention(h, *parameters)
        expected.append(pooling_loops.weighted_moments(h, w, 1e-12))
    torch.testing.assert_close(module(frames, lengths), torch.tensor(expected), rtol=1e-4, atol=1e-5)
