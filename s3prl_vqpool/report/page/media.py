"""Audio and spectrograms as data URIs, the same bytes each time."""

from __future__ import annotations

import base64
import io
import struct
from functools import cache

import numpy as np
import soundfile
import torch

from ...corpora.audio import SAMPLE_RATE

MELS = 80
_RANGE = 60.0
"""Decibels below the loudest field that are told apart."""
_LEVELS = 48
"""Colours of a spectrogram: few, so that the file is small."""
_WINDOW, _HOP = 400, 160
_OPUS = 0.92
"""libsndfile's compression level: about 26 kbit/s."""
_CRC = 0x04C11DB7


def uri(kind: str, content: bytes) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def audio(samples: np.ndarray) -> str:
    """Samples float32 [N] at 16 kHz as Opus, or as FLAC where libsndfile is older than 1.0.29."""
    file = io.BytesIO()
    if "OPUS" not in soundfile.available_subtypes("OGG"):
        soundfile.write(file, samples, SAMPLE_RATE, format="FLAC")
        return uri("audio/flac", file.getvalue())
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=_OPUS)
    return uri("audio/ogg", _same(file.getvalue()))


def _same(stream: bytes) -> bytes:
    """An Ogg stream with serial number 1, where libsndfile draws a random one. Source: RFC 3533, section 6."""
    pages, start = [], 0
    while start < len(stream):
        segments = stream[start + 26]
        size = 27 + segments + sum(stream[start + 27 : start + 27 + segments])
        page = bytearray(stream[start : start + size])
        page[14:18] = struct.pack("<I", 1)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _checksum(page))
        pages.append(bytes(page))
        start += size
    return b"".join(pages)


def _checksum(page: bytearray) -> int:
    table, value = _table(), 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


@cache
def _table() -> list[int]:
    found = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ _CRC if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        found.append(value)
    return found


def spectrogram(samples: np.ndarray) -> str:
    """Log-mel spectrogram (windows of 25 ms every 10 ms, 80 bands to 8 kHz) as PNG, one column each 10 ms."""
    from matplotlib import colormaps
    from PIL import Image

    spectrum = torch.stft(
        torch.from_numpy(samples), _WINDOW, _HOP, window=torch.hann_window(_WINDOW), return_complex=True
    )
    power = bands() @ spectrum.abs().square()  # [80, columns]
    decibels = 10 * power.clamp(min=1e-10).log10()
    share = 1 + (decibels - decibels.max()).clamp(min=-_RANGE) / _RANGE
    levels = (share * (_LEVELS - 1)).round().to(torch.uint8)[:, : max(1, len(samples) // _HOP)].flip(0)
    image = Image.fromarray(levels.numpy(), "P")
    colours = colormaps["magma"](np.linspace(0, 1, _LEVELS))[:, :3]
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return uri("image/png", file.getvalue())


def bands() -> torch.Tensor:
    """Triangles float32 [80, 201] over the bins of the spectrum, evenly spaced on HTK's mel scale up to 8 kHz."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, MELS + 2) / 2595) - 1)  # Hz
    bins = np.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    return torch.from_numpy(np.minimum(rising, falling).clip(0)).float()
