"""The feature extractor in blocks: the numbers of its own forward, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl.upstream.wav2vec2.wav2vec2_model import ConvFeatureExtractionModel
from tiny import waves
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from s3prl_vqpool.codes import blocks

#: Strides of wav2vec 2.0, channels for which torch runs the kernels of a published model.
SHAPES = [(128, 10, 5), *[(128, 3, 2)] * 4, *[(128, 2, 2)] * 2]


def s3prls(norm: str) -> nn.Module:
    return ConvFeatureExtractionModel(
        SHAPES, mode="default" if norm == "group" else "layer_norm", conv_bias=norm == "layer"
    )


def hugging_faces(norm: str) -> nn.Module:
    channels, kernels, strides = (list(each) for each in zip(*SHAPES))
    config = Wav2Vec2Config(
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        feat_extract_norm=norm,
        conv_bias=norm == "layer",
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return Wav2Vec2Model(config).feature_extractor


@pytest.fixture(params=[(make, norm) for make in (s3prls, hugging_faces) for norm in ("group", "layer")])
def extractor(request: pytest.FixtureRequest) -> nn.Module:
    make, norm = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = make(norm)
        for (
            parameter
        ) in made.parameters():  # norms of scale 1 and shift 0 would hide which channel they belong to
            nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.fixture(autouse=True)
def smallest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks are used for small models, too, on as many threads as give the same bits."""
    monkeypatch.setattr(blocks, "_SMALL", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def padded(*samples: int) -> Tensor:
    return nn.utils.rnn.pad_sequence(waves(*samples), batch_first=True)


@pytest.mark.parametrize(
    "samples",
    [
        (400,),
        (799,),
        (6400,),
        (160_123,),
        (6400, 800),
        (20_000, 19_000, 7_000),
        (70_000, 48_000, 400, 9_999, 16_000),
    ],
)
@torch.no_grad()
def test_blocks_have_the_bits_of_the_whole(extractor: nn.Module, samples: tuple[int, ...]) -> None:
    expected = extractor(padded(*samples))
    assert torch.equal(blocks.features(extractor, padded(*samples)), expected)


@torch.no_grad()
def test_a_block_is_two_rows_and_few_frames(extractor: nn.Module) -> None:
    seen: list[tuple[int, ...]] = []
    extractor.conv_layers[-1].register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    blocks.features(extractor, padded(*[64_000] * 4))
    assert len(seen) > 4
    assert {shape[0] for shape in seen} == {2}
    assert max(shape[2] for shape in seen) < 2 * 2 * blocks.FRAMES * torch.get_num_threads()


@torch.no_grad()
def test_more_threads_need_leave_to_round(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    source, calls = padded(*[64_000] * 4), []
    extractor.conv_layers[-1].register_forward_pre_hook(lambda *_: calls.append(1))
    expected = blocks.features(extractor, source)
    assert len(calls) == 1
    with blocks.up_to_rounding():
        torch.testing.assert_close(blocks.features(extractor, source), expected, rtol=0, atol=1e-5)
    assert len(calls) > 2
    blocks.features(extractor, source)
    assert not blocks._rounding_allowed.get()


def test_the_whole_is_taken_for_training_and_gradients(extractor: nn.Module) -> None:
    calls = []
    extractor.conv_layers[-1].register_forward_pre_hook(lambda *_: calls.append(1))
    source = padded(*[64_000] * 4)
    found = blocks.features(extractor, source)
    assert found.requires_grad
    assert len(calls) == 1
    extractor.train()
    with torch.no_grad():
        blocks.features(extractor, source)
    extractor.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        blocks.features(extractor, source)
    assert len(calls) == 3


def test_an_extractor_with_blocks_is_copied(extractor: nn.Module) -> None:
    blocks.install(extractor)
    source = padded(20_000, 16_000)
    with torch.no_grad():
        expected = extractor(source)
        copied = copy.deepcopy(extractor)
        next(extractor.conv_layers[-1].parameters()).zero_()
        assert torch.equal(copied(source), expected)
        assert not torch.equal(extractor(source), expected)


def test_what_normalises_later_over_time_is_left_alone() -> None:
    extractor = s3prls("group")
    extractor.conv_layers[2][1] = nn.GroupNorm(128, 128)
    blocks.install(extractor)
    assert "forward" not in vars(extractor)
