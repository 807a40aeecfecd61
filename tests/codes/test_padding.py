"""Which models of wav2vec 2.0 mask their padding, and utterances that do not share a call of the feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.upstream.wav2vec2.wav2vec2_model import TransformerEncoder
from tiny import BASE, LARGE, converted_checkpoint, waves
from torch import nn

from s3prl_vqpool.codes.padding import convolved_apart, masks_padding


@pytest.fixture(params=[BASE, LARGE], ids=["base", "large"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = converted_checkpoint(tmp_path / "a.pt", request.param)
    return hub.wav2vec2_local(ckpt=str(path)).eval().model


class Other(TransformerEncoder):
    """A subclass, as S3PRL's Conformer is."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(encoder))


def test_one_positional_convolution_and_attention_mask_padding(model: Any) -> None:
    assert masks_padding(model)
    model.crop_seq_to_multiple = 2
    assert not masks_padding(model)
    model.crop_seq_to_multiple = 1
    encoder, convolution = model.encoder, model.encoder.pos_conv
    model.encoder = Other(encoder)
    assert not masks_padding(model)
    model.encoder = encoder
    for stack in (
        nn.Sequential(nn.Sequential(convolution[0]), nn.GELU()),
        nn.Sequential(nn.GELU(), convolution[0]),
    ):
        encoder.pos_conv = stack  # several convolutions, each within another module, as data2vec has
        assert not masks_padding(model)
    encoder.pos_conv = convolution[0]
    assert not masks_padding(model)
    encoder.pos_conv = convolution
    assert masks_padding(model)


@torch.no_grad()
def test_apart_each_utterance_has_its_own_numbers(model: Any) -> None:
    wavs = waves(4000, 9000, 4000, 7321)
    padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    alone = [model.feature_extractor(wav[None])[0] for wav in wavs]
    calls: list[int] = []
    forward = type(model.feature_extractor).forward
    with convolved_apart(model, lambda: [len(wav) for wav in wavs]):
        model.feature_extractor.conv_layers[0].register_forward_pre_hook(
            lambda _, given: calls.append(len(given[0]))
        )
        together = model.feature_extractor(padded)
    assert model.feature_extractor.forward.__func__ is forward
    grouped = any(isinstance(module, nn.GroupNorm) for module in model.feature_extractor.modules())
    assert calls == ([1, 1, 2] if grouped else [4])  # the longest first; equal lengths share a call
    for found, expected in zip(together, alone):
        torch.testing.assert_close(found[:, : expected.size(1)], expected, rtol=1e-4, atol=1e-5)
        if grouped:
            assert not found[:, expected.size(1) :].any()
