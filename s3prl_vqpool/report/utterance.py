"""One utterance: waveform, spectrogram, codes as ribbons and weights over time: Figure 3 of arXiv 2304.03940."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..corpora.audio import SAMPLE_RATE
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MELS = 80
_RANGE = 80
"""Decibels below the loudest field that are told apart."""
_WINDOW, _HOP = 400, 160
_KHZ = (0.5, 1, 2, 4, 8)
_PIECES = 1000
"""Of a waveform, that are told apart in print."""
_GOLDEN = 0.618034


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram [80, frames] in dB below its maximum, of samples [N] at 16 kHz.

    Windows of 25 ms, the first centred at 0 and then every 10 ms; mel scale of HTK up to 8 kHz.
    """
    from scipy.signal import stft

    bins, _, values = stft(samples, SAMPLE_RATE, nperseg=_WINDOW, noverlap=_WINDOW - _HOP, nfft=1024)
    edges = 700 * (10 ** (np.linspace(0, _mel(SAMPLE_RATE / 2), MELS + 2) / 2595) - 1)
    filters = np.stack([np.interp(bins, edges[k : k + 3], (0, 1, 0)) for k in range(MELS)])
    decibels = 10 * np.log10(np.maximum(filters @ abs(values) ** 2, 1e-20))  # [80, frames]
    return np.maximum(decibels - decibels.max(), -_RANGE)


def _mel(hertz: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def envelope(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and values of a line that looks like samples [N] in print: the least and the largest of each piece."""
    piece = max(1, len(samples) // _PIECES)
    kept = samples[: len(samples) // piece * piece].reshape(-1, piece)
    seconds = np.arange(len(kept)) * piece / SAMPLE_RATE
    return seconds.repeat(2), np.stack([kept.min(axis=1), kept.max(axis=1)], axis=1).ravel()


@style.styled
def utterance(
    samples: np.ndarray,
    codes: Tensor,
    weights: Mapping[str, Tensor],
    hop: float,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draws four panels over time: waveform, log-mel spectrogram, codes, weights.

    The codes of a codebook are a ribbon in which equal codes have equal colours; a run of equal codes has its index
    where there is room.

    Args:
        samples: float [N] at 16 kHz.
        codes: int [T, G], indices in G codebooks.
        weights: by the pooling's name, floating [T] of sum 1.
        hop: seconds from one frame to the next.
        axes: four.
    """
    seconds = len(samples) / SAMPLE_RATE
    groups = codes.shape[1]
    height = 3.9 + 0.22 * groups + 0.16 * -(-len(weights) // 4)
    ratios = [0.8, 1.5, 0.3 * groups, 1.5]
    panels = style.panels(axes, 4, style.WIDTH, height, sharex=True, height_ratios=ratios)
    wave, spectrogram, ribbons, curves = panels
    entries = {}
    wave.plot(*envelope(samples), color="#333333", linewidth=0.4)
    wave.set(ylabel="waveform", yticks=[])
    _spectrogram(spectrogram, samples)
    _ribbons(ribbons, codes, hop, seconds)
    edges = np.arange(len(codes) + 1) * hop
    for number, (name, each) in enumerate(weights.items()):
        colour = style.look(number)["color"]
        entries[name] = curves.stairs(each.numpy(), edges, baseline=None, color=colour, linewidth=1.1)
    curves.set(ylabel="weight", ylim=(0, None), xlabel="seconds", xlim=(0, seconds))
    curves.grid(axis="y")
    if weights:
        style.legend(panels, axes is not None, entries, columns=4)
    return panels


def _spectrogram(panel: Axes, samples: np.ndarray) -> None:
    values, hop = log_mel(samples), _HOP / SAMPLE_RATE
    extent = (-hop / 2, (values.shape[1] - 0.5) * hop, 0, MELS)
    panel.imshow(
        values, cmap=style.COLOUR_MAP, origin="lower", aspect="auto", extent=extent, interpolation="none"
    )
    mels = _mel(1000 * np.array(_KHZ))
    panel.set_yticks(mels / mels[-1] * MELS, labels=[f"{khz:g}" for khz in _KHZ])
    panel.set(ylabel="kHz (mel)", ylim=(0, MELS))


def _ribbons(panel: Axes, codes: Tensor, hop: float, seconds: float) -> None:
    """The first codebook is at the top."""
    import matplotlib

    colours = matplotlib.colormaps[style.COLOUR_MAP]
    inch = panel.figure.bbox.width / panel.figure.dpi * 0.9 / seconds
    for group in range(codes.shape[1]):
        runs, begun = [], 0
        for code, frames in groupby(codes[:, group].tolist()):
            runs.append((code, begun, len(list(frames))))
            begun += runs[-1][2]
        y = codes.shape[1] - 1 - group
        shades = [code * _GOLDEN % 1 for code, _, _ in runs]  # far apart where indices are next to each other
        panel.broken_barh(
            [(start * hop, length * hop) for _, start, length in runs],
            (y + 0.06, 0.88),
            facecolors=[colours(shade) for shade in shades],
            linewidth=0,
        )
        for (code, start, length), shade in zip(runs, shades):
            if length * hop * inch > 0.085:
                wide = length * hop * inch > 0.07 * len(str(code)) + 0.04
                panel.text(
                    (start + length / 2) * hop,
                    y + 0.48,
                    str(code),
                    fontsize=5,
                    rotation=0 if wide else 90,
                    ha="center",
                    va="center",
                    color="white" if shade < 0.5 else "black",
                )
    names = [f"codebook {group + 1}" for group in range(codes.shape[1])]
    panel.set_yticks(np.arange(codes.shape[1])[::-1] + 0.5, labels=names)
    panel.set_ylim(0, codes.shape[1])
    panel.tick_params(axis="y", length=0)
