"""The parts of torchaudio's audio reading and of sox's effects that S3PRL uses, by soundfile and soxr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError


def load(
    uri: Any,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    **_: Any,
) -> tuple[torch.Tensor, int]:
    """`torchaudio.load` by soundfile: float32 [channels, samples] (or transposed) and the sample rate."""
    import soundfile

    samples, rate = soundfile.read(
        uri, start=frame_offset, frames=num_frames, dtype="float32", always_2d=True
    )
    return torch.from_numpy(samples.T.copy() if channels_first else samples), rate


@dataclass(frozen=True)
class AudioMetaData:
    """What `torchaudio.info` gives; ``bits_per_sample`` is 0 where samples have no fixed size (MP3, Vorbis)."""

    sample_rate: int
    num_frames: int
    num_channels: int
    bits_per_sample: int
    encoding: str


#: (encoding, bits per sample) in torchaudio's words of soundfile's subtypes.
_ENCODINGS = {
    "PCM_S8": ("PCM_S", 8),
    "PCM_U8": ("PCM_U", 8),
    "PCM_16": ("PCM_S", 16),
    "PCM_24": ("PCM_S", 24),
    "PCM_32": ("PCM_S", 32),
    "FLOAT": ("PCM_F", 32),
    "DOUBLE": ("PCM_F", 64),
    "ULAW": ("ULAW", 8),
    "ALAW": ("ALAW", 8),
    "VORBIS": ("VORBIS", 0),
    "MPEG_LAYER_III": ("MP3", 0),
}


def info(uri: Any, **_: Any) -> AudioMetaData:
    """`torchaudio.info` by soundfile: the header of an audio file."""
    import soundfile

    header = soundfile.info(uri)
    encoding, bits = _ENCODINGS.get(header.subtype, ("UNKNOWN", 0))
    return AudioMetaData(
        header.samplerate,
        header.frames,
        header.channels,
        bits,
        "FLAC" if header.format == "FLAC" else encoding,
    )


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: Sequence[Sequence[str]], channels_first: bool = True
) -> tuple[torch.Tensor, int]:
    """sox's `channels 1`, `rate R` and `gain dB` on float32 [channels, samples]; other effects are refused.

    sox computes with integers, so samples beyond full scale are clipped after each effect.
    """
    import soxr

    samples = tensor if channels_first else tensor.T
    for name, *values in effects:
        if name == "channels" and values == ["1"]:
            samples = samples.mean(dim=0, keepdim=True)
        elif name == "rate" and len(values) == 1 and values[0].isdecimal():
            resampled = soxr.resample(samples.T.numpy(), sample_rate, int(values[0]), quality="HQ")
            samples, sample_rate = torch.from_numpy(resampled.T.copy()), int(values[0])
        elif name == "gain" and len(values) == 1 and _is_number(values[0]):
            samples = samples * 10 ** (float(values[0]) / 20)
        else:
            raise InputError(f"sox effect {' '.join([name, *values])!r} needs torchaudio < 2.9 and libsox.")
        samples = samples.clip(-1, 1)
    return samples if channels_first else samples.T, sample_rate


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def apply_effects_file(
    path: Any, effects: Sequence[Sequence[str]], normalize: bool = True, channels_first: bool = True, **_: Any
) -> tuple[torch.Tensor, int]:
    """`apply_effects_tensor` on an audio file."""
    tensor, rate = load(path)
    samples, rate = apply_effects_tensor(tensor, rate, effects)
    return samples if channels_first else samples.T, rate
