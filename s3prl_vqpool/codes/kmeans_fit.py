"""Fitting k-means codebooks on the hidden states of any upstream of S3PRL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..corpora import audio
from ..corpora.folders import files_below
from ..errors import InputError
from .kmeans import KMeansCodebooks

#: A file is read up to here, because a transformer's memory grows with the square of the duration.
MOST_SAMPLES = 30 * audio.SAMPLE_RATE
SUFFIXES = (".wav", ".flac", ".ogg")


def audio_files(folder: Path) -> list[Path]:
    """The WAV, FLAC and Ogg files below ``folder``, sorted; InputError where there are none."""
    files = files_below(folder, SUFFIXES)
    if not files:
        raise InputError(f"{folder}: no {', '.join(SUFFIXES)} files in it.")
    return files


def geometry(upstream: Any) -> tuple[int, int]:
    """window and hop of an upstream: n samples give it ``(n - window) // hop + 1`` frames.

    Found by trying lengths around one second; a window may be negative, where the upstream pads.

    Raises:
        InputError: its frames do not follow this rule.
    """
    hop, device = int(upstream.get_downsample_rates("hidden_states")), _device(upstream)

    @torch.no_grad()
    def frames(samples: int) -> int:
        noise = torch.randn(samples, generator=torch.Generator())  # always the same
        first, *_ = upstream([noise.to(device)])["hidden_states"]
        return first.size(1)

    low, high = audio.SAMPLE_RATE, audio.SAMPLE_RATE + hop
    first = frames(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if frames(middle) > first else (middle, high)
    window = high - hop * first
    for samples in (high, high - 1, 12_345, 24_001, 7 * hop + 9_600):
        if frames(samples) != (samples - window) // hop + 1:
            raise InputError(
                f"{type(upstream).__module__}: {samples} samples give {frames(samples)} frames, which is no "
                f"window of {window} samples every {hop}: codes cannot be matched to its frames."
            )
    return window, hop


@torch.no_grad()
def require_columns(upstream: Any, layer: int, columns: int, origin: Path) -> None:
    """InputError that names ``origin`` unless the hidden state ``layer`` of ``upstream`` has ``columns`` columns."""
    states = upstream([torch.zeros(audio.SAMPLE_RATE, device=_device(upstream))])["hidden_states"]
    if layer >= len(states):
        raise InputError(f"-l {layer}: this upstream has the layers 0 to {len(states) - 1}.")
    width = states[layer].size(-1)
    if width != columns:
        raise InputError(
            f"{origin}: its entries have {columns} columns, but layer {layer} of the upstream has {width}: they belong "
            "to another upstream or another layer."
        )


def sample_frames(
    upstream: Any, files: Sequence[Path], layers: Sequence[int], count: int, seed: int
) -> list[np.ndarray]:
    """Per layer float32 [count, D]: the hidden states of the same frames, drawn evenly from all files."""
    generator, per_file = np.random.default_rng(seed), -(-count // len(files))
    kept: list[list[np.ndarray]] = [[] for _ in layers]
    for file in tqdm(files, desc="hidden states", unit="file", disable=None):
        samples = audio.read(file, frames=MOST_SAMPLES if audio.length(file) > MOST_SAMPLES else None)
        with torch.no_grad():
            states = upstream([torch.from_numpy(samples).to(_device(upstream))])["hidden_states"]
        if max(layers) >= len(states):
            raise InputError(f"-l {max(layers)}: this upstream has the layers 0 to {len(states) - 1}.")
        first, *_ = states
        drawn = generator.permutation(first.size(1))[:per_file]
        for layer, rows in zip(layers, kept):
            rows.append(states[layer].squeeze(0).float().cpu().numpy()[drawn])
    first, *_ = kept
    order = generator.permutation(sum(map(len, first)))[:count]
    return [np.concatenate(rows)[order] for rows in kept]


def fit(
    frames: Sequence[np.ndarray],
    layers: Sequence[int],
    entries: int,
    groups: int,
    seed: int,
    identity: dict[str, str],
) -> tuple[KMeansCodebooks, list[float]]:
    """Codebooks of ``entries`` each, over ``groups`` equal ranges of the columns of each layer.

    Args:
        frames: per layer float32 [N, D].

    Returns:
        The codebooks, and per codebook the mean squared distance of a frame to its centroid.

    Raises:
        InputError: fewer frames than entries, or columns that do not split evenly.
    """
    from sklearn.cluster import MiniBatchKMeans

    first, *_ = frames
    count, width = first.shape
    if count < entries:
        raise InputError(f"-k {entries}: there are only {count} frames to fit on; give more audio.")
    if width % groups:
        raise InputError(f"--groups {groups}: {width} columns do not split into so many equal parts.")
    columns = [(start, start + width // groups) for start in range(0, width, width // groups)]
    jobs = [(layer, part, states) for layer, states in zip(layers, frames) for part in columns]
    centroids, distances = [], []
    for _, (start, stop), states in tqdm(jobs, desc="k-means", unit="codebook", disable=None):
        part = np.ascontiguousarray(states[:, start:stop])
        fitted = MiniBatchKMeans(entries, batch_size=8192, n_init=3, random_state=seed).fit(part)
        centroids.append(torch.from_numpy(fitted.cluster_centers_.astype(np.float32)))
        distances.append(float(fitted.inertia_) / len(part))
    books = KMeansCodebooks(
        tuple(centroids), tuple(part for _, part, _ in jobs), identity, tuple(layer for layer, _, _ in jobs)
    )
    return books, distances


def _device(upstream: nn.Module) -> torch.device:
    tensor: Tensor | None = next(iter(upstream.state_dict().values()), None)
    return torch.device("cpu") if tensor is None else tensor.device
