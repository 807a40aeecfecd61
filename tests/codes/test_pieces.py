"""Codes of one waveform without the rest of the model, whole and in pieces: those of the whole forward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import CHECKPOINTS, needed
from tiny import BASE, LARGE, converted_checkpoint, waves
from torch import Tensor, nn

from s3prl_vqpool.codes import pieces
from s3prl_vqpool.codes.upstream import WithCodes
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

GOLDEN = {
    "fairseq_wav2vec2_base.pt": "wav2vec2_vq_local",
    "fairseq_wav2vec2_large.pt": "wav2vec2_vq_local",
    "fairseq_xlsr.pt": "wav2vec2_vq_local",
    "fairseq_vq_wav2vec_gumbel.pt": "vq_wav2vec_vq_local",
    "fairseq_vq_wav2vec_kmeans.pt": "vq_wav2vec_vq_local",
    "hf_wav2vec2_base": "hf_wav2vec2_vq_local",
    "hf_wav2vec2_large": "hf_wav2vec2_vq_local",
}


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 7 frames, and statistics of 3 channels at a time."""
    monkeypatch.setattr(pieces.features, "__defaults__", (7,))
    monkeypatch.setattr(pieces, "_NUMBERS", 3 * 6000)


def whole(upstream: WithCodes, wav: Tensor) -> Tensor:
    with torch.no_grad():
        return upstream([wav])["codes"][0]


def upstream_of(name: str, **options: object) -> WithCodes:
    plugin.register()
    return plugin.upstreams()[name](refresh=False, **options).eval()


@needed
@pytest.mark.parametrize("checkpoint", GOLDEN)
@pytest.mark.parametrize("samples", [400 + 320 * 6, 16000, 30001])
def test_codes_alone_are_those_of_the_forward_of_golden_checkpoints(checkpoint: str, samples: int) -> None:
    name = GOLDEN[checkpoint]
    names = plugin.upstreams()
    upstream = upstream_of(
        name if name in names else name.replace("_local", "_custom"), ckpt=str(CHECKPOINTS / checkpoint)
    )
    (wav,) = waves(samples, seed=3)
    torch.testing.assert_close(upstream.codes_alone(wav), whole(upstream, wav), rtol=0, atol=0)


def test_codes_alone_are_those_of_the_forward_of_the_tiny_model() -> None:
    upstream = upstream_of("wav2vec2_vq_tiny")
    for wav in waves(400, 16000, 48123, seed=1):
        torch.testing.assert_close(upstream.codes_alone(wav), whole(upstream, wav), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mfcc_vq", "fbank_vq"])
def test_upstreams_that_need_all_of_themselves_give_the_same(name: str) -> None:
    upstream = upstream_of(name)
    (wav,) = waves(16000)
    torch.testing.assert_close(upstream.codes_alone(wav), whole(upstream, wav), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [BASE, LARGE])
def test_no_piece_runs_the_transformer(tmp_path: Path, kind: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = upstream_of("wav2vec2_vq_local", ckpt=str(converted_checkpoint(tmp_path / "a.pt", kind)))
    (wav,) = waves(30000)
    expected = whole(upstream, wav)
    seen = []
    upstream.model.feature_extractor.register_forward_pre_hook(lambda _, given: seen.append(given[0].size(1)))
    upstream.model.encoder.register_forward_pre_hook(lambda *_: pytest.fail("the transformer ran"))
    torch.testing.assert_close(upstream.codes_alone(wav), expected, rtol=0, atol=0)
    assert max(seen) == 400 + 6 * 320
    assert len(seen) == -(-len(expected) // 7)


@pytest.mark.parametrize("kind", [BASE, LARGE])
def test_features_of_pieces_are_those_of_the_whole(tmp_path: Path, kind: dict) -> None:
    upstream = upstream_of("wav2vec2_vq_local", ckpt=str(converted_checkpoint(tmp_path / "a.pt", kind)))
    extractor = upstream.model.feature_extractor
    (wav,) = waves(30000)
    with torch.no_grad():
        found = torch.cat(list(pieces.features(extractor, wav)), dim=2)
        torch.testing.assert_close(found, extractor(wav[None]), rtol=1e-4, atol=1e-5)


def test_an_extractor_that_normalises_later_over_time_is_not_divided(tmp_path: Path) -> None:
    upstream = upstream_of("wav2vec2_vq_local", ckpt=str(converted_checkpoint(tmp_path / "a.pt", LARGE)))
    extractor = upstream.model.feature_extractor
    assert pieces.divisible(extractor)
    extractor.conv_layers[2][2] = nn.GroupNorm(1, 512)
    assert not pieces.divisible(extractor)


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_free", lambda: 2 * 10**9)
    pieces.require_memory(2 * 10**9, torch.device("cpu"))
    with pytest.raises(InputError, match=r"needs about 2\.1 GB of memory, 2\.0 GB are free"):
        pieces.require_memory(21 * 10**8, torch.device("cpu"))


def test_memory_is_three_times_the_first_layer() -> None:
    """One second of base-size wav2vec 2.0: 512 channels at 3,200 places, 4 bytes a number."""
    extractor = nn.Sequential(nn.Conv1d(1, 512, 10, stride=5), nn.Conv1d(512, 8, 3, stride=2))
    assert pieces.bytes_needed(extractor, 16_000) == 3 * 512 * 3200 * 4


def test_pieces_are_of_a_thousand_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of `short_pieces`
    extractor = Extractor(nn.Conv1d(1, 2, 4, stride=2))
    for frames, sizes in ((1000, [1000]), (1001, [1000, 1]), (2000, [1000, 1000]), (2500, [1000, 1000, 500])):
        (wav,) = waves(2 * frames + 2)
        found = list(pieces.features(extractor, wav))
        assert [each.size(2) for each in found] == sizes
        torch.testing.assert_close(torch.cat(found, dim=2), extractor(wav[None]))


def test_statistics_of_a_long_waveform_take_some_channels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 2**25 outputs of the first convolution: eight channels of 2**22 frames."""
    monkeypatch.undo()
    held = []
    monkeypatch.setattr(
        pieces.F, "conv1d", lambda *given: held.append(given[1].size(0)) or torch.zeros(1, held[-1], 2)
    )
    for frames, channels in ((2**22, [8, 8, 2]), (2**22 + 1, [7, 7, 4]), (2**25 + 1, [1] * 18), (10, [18])):
        held.clear()
        pieces._moments(nn.Conv1d(1, 18, 3), 1e-5, torch.empty(1, device="meta").expand(frames + 2))
        assert held == channels


class Extractor(nn.Module):
    """Convolutions in a row, each in a layer of its own."""

    def __init__(self, *convolutions: nn.Conv1d) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(nn.Sequential(each) for each in convolutions)

    def forward(self, wavs: Tensor) -> Tensor:
        states = wavs[:, None]
        for layer in self.conv_layers:
            states = layer(states)
        return states


@pytest.mark.parametrize("change", [{"padding": 1}, {"dilation": 2}])
def test_an_extractor_whose_frames_see_other_samples_is_not_divided(change: dict) -> None:
    assert pieces.divisible(Extractor(nn.Conv1d(1, 2, 4), nn.Conv1d(2, 2, 3)))
    assert not pieces.divisible(Extractor(nn.Conv1d(1, 2, 4), nn.Conv1d(2, 2, 3, **change)))
    assert pieces.geometry(Extractor(nn.Conv1d(1, 2, 4, stride=3), nn.Conv1d(2, 2, 5, stride=2))) == (
        4 + 4 * 3,
        6,
    )


def test_free_memory_is_the_least_of_kernel_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  5000 kB\n",
        "/sys/fs/cgroup/memory.max": "4000000\n",
        "/sys/fs/cgroup/memory.current": "1000000\n",
    }

    def read(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert pieces._free() == 3_000_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert pieces._free() == 5_120_000
    files["/sys/fs/cgroup/memory.max"] = "9000000\n"
    assert pieces._free() == 5_120_000
    del files["/sys/fs/cgroup/memory.current"]
    assert pieces._free() == 5_120_000
    files.clear()
    assert pieces._free() is None
