"""Vectors of utterances without a corpus and without a store."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import pooling
from ..codes.entries import check_given
from ..codes.precision import FLOAT32, require
from ..corpora import audio
from ..errors import InputError
from ..pooling import Counts, LinearMap
from ..runner import plugin, statistics
from . import layout, prefixes
from .encode import Encoded, Encoder

Waveform = str | Path | np.ndarray | Tensor
"""A path, or samples: floating [samples] at 16 kHz."""


class Embedder:
    """One vector for each utterance: ``embed(["one.wav", "two.flac"])`` is float32 [2, E].

    The vectors are those of a store (`vqpool extract`): each utterance gets the numbers that it has alone, up to
    rounding, whatever it is batched with.

    Args:
        upstream: an upstream with codes: `vqpool list upstreams`.
        ckpt: its checkpoint, run_downstream.py's ``-k``, where its name does not fix the weights.
        model_config: its codebook.yaml, run_downstream.py's ``-g``.
        pooling: ``WEIGHTS[+std][|MAP]``, or any name of `pooling.methods` that is not learned with a head.
        statistics: the training statistics of a pooling that needs them: `pooling_statistics.safetensors` of an
            experiment or of a store.
        layer: of the hidden states, from 0; None for the mean over all of them.
        device: by default CUDA where torch sees it, else the CPU.
        batch_seconds: most speech in a batch, padding included; by default that of a store.
        precision: of the transformer: float32, bf16, or on a GPU fp16. Codes are those of float32.
        options: those of the pooling, such as VQ-SIF's ``a``.

    Raises:
        InputError: an unknown name or option, missing statistics or those of another upstream, a checkpoint that
            cannot be used, a device that is not here. One line.

    Examples:
        >>> embed = Embedder("wav2vec2_vq_tiny", pooling="VQ-LP", device="cpu")
        >>> embed(np.sin(np.arange(16000) / 20)).shape
        torch.Size([1, 192])
    """

    def __init__(
        self,
        upstream: str = "wav2vec2_vq",
        *,
        ckpt: str | None = None,
        model_config: str | None = None,
        pooling: str = "VQ-LP",
        statistics: str | Path | None = None,
        layer: int | None = None,
        device: str | torch.device | None = None,
        batch_seconds: float | None = None,
        precision: str = FLOAT32,
        **options: Any,
    ) -> None:
        self.method, self.layer = _storable(pooling, statistics), layer
        values = self.method.with_defaults(options)
        self.device = _device(device)
        self.batch_seconds = batch_seconds or layout.BATCH_SECONDS[self.device.type]
        entry = plugin.entry_of(upstream)
        check_given(entry, ckpt=ckpt, model_config=model_config)
        self.upstream = entry(ckpt=ckpt, model_config=model_config, refresh=False).eval().to(self.device)
        require(precision, self.upstream, upstream, self.device)
        counts, self.map = self._loaded(statistics, values)
        self._options = {**self.method.unmapped.own(values), **({"counts": counts} if counts else {})}
        self._deviates = self.method.moments is not None and layer is None
        poolings = {} if self._deviates else {self.method.unmapped.name: self._options}
        self._encoder = Encoder(self.upstream, poolings, self._deviates, torch.float32, precision)

    def _loaded(
        self, path: str | Path | None, values: dict[str, Any]
    ) -> tuple[Counts | None, LinearMap | None]:
        """Counts and map from a file, as far as the pooling needs them."""
        if path is None:
            return None, None
        expected = dict(self.upstream.identity())
        if self.method.map is not None:
            changed = {o.name: values[o.name] for o in self.method.options if values[o.name] != o.default}
            expected.update(selection="hidden_states", layer=self.layer, normalize=False)
            expected.update({"options": changed} if changed else {})
        found = statistics.load(self.method, path, expected)
        counts = next((each for each in found if isinstance(each, Counts)), None)
        return counts, next((each for each in found if isinstance(each, LinearMap)), None)

    def __call__(self, utterances: Waveform | Iterable[Waveform], progress: bool = True) -> Tensor:
        """Vectors float32 [N, E], on the CPU, of N utterances in their order; of a single one [1, E].

        Files may have any sample rate and several channels: they are averaged and resampled to 16 kHz. Arrays and
        tensors are taken as 16 kHz. Files are read batch by batch, the longest utterances first.

        Args:
            progress: whether a terminal shows a bar.

        Raises:
            InputError: no utterance, audio that cannot be read or is too short for a frame, samples of another
                shape or dtype or that are not finite, a layer that the upstream does not have. The line names the
                file, or the place in the list.
        """
        single = isinstance(utterances, (str, Path, np.ndarray, Tensor))
        given: list[Waveform] = [utterances] if single else list(utterances)  # type: ignore[list-item,arg-type]
        if not given:
            raise InputError("No utterances: give a path, an array or a tensor, or a list of them.")
        names = [
            str(each) if isinstance(each, (str, Path)) else f"utterance {k}" for k, each in enumerate(given)
        ]
        samples = [self._samples(name, each) for name, each in zip(names, given)]
        self.require_frames(names, samples)
        order = sorted(range(len(given)), key=lambda k: -samples[k])
        vectors: dict[int, Tensor] = {}
        with tqdm(
            total=len(given), unit="utterance", disable=None if progress else True, file=sys.stderr
        ) as bar:
            for rows in layout.batches(order, samples, self.batch_seconds):
                wavs = [_read(given[row], self.device) for row in rows]
                vectors.update(zip(rows, self.batch([names[row] for row in rows], wavs)))
                bar.update(len(rows))
        return self.mapped(torch.stack([vectors[row] for row in range(len(given))]))

    def mapped(self, vectors: Tensor) -> Tensor:
        """Vectors [N, E] of `batch` as the pooling's map gives them; themselves where it has none."""
        return vectors if self.map is None else self.map(vectors)

    def _samples(self, name: str, given: Waveform) -> int:
        """Number of samples of an utterance."""
        return audio.length(given) if isinstance(given, (str, Path)) else _checked(name, given)

    def require_frames(self, names: Sequence[str], samples: Sequence[int]) -> None:
        """Raise InputError where an utterance of so many samples has too few frames; names the first."""
        for name, count, length in zip(names, samples, self.upstream.code_lengths(samples)):
            if length < self.upstream.min_frames:
                raise InputError(
                    f"{name}: {count} samples are too short for {self.upstream.min_frames} frame(s) of this "
                    "upstream: leave it out."
                )

    def batch(self, names: Sequence[str], wavs: Sequence[Tensor], every: int | None = None) -> list[Tensor]:
        """[E] of each utterance of a batch, without the map; with ``every``, [rows, E] of its beginnings.

        Args:
            names: what messages call the utterances.
            wavs: float32 [samples] at 16 kHz, on ``device``.
            every: frames from one beginning to the next: `prefixes.pooled`.
        """
        encoder = self._encoder if every is None else prefixes.PrefixEncoder(self._encoder, every)
        try:
            encoded = encoder(wavs)
        except InputError as error:
            if len(wavs) == 1:
                raise InputError(f"{names[0]}: {error}") from error
            for name, wav in zip(names, wavs):  # the one at fault is named
                self.batch([name], [wav], every)
            raise
        return [self._vector(one, len(wav), every) for one, wav in zip(encoded, wavs)]

    def _vector(self, one: Encoded, samples: int, every: int | None) -> Tensor:
        name = self.method.unmapped.name
        if self._deviates:
            codes, rate = one["codes"], self.upstream.get_downsample_rates("hidden_states")
            given = name, self._options, [one["frames"]], codes, every or len(codes), samples, rate
            vectors = prefixes.pooled(*given)[:, 0]  # [rows, E]
            return vectors.squeeze(0) if every is None else vectors
        layers = one[f"vectors.{name}"]  # [layers, E], or [rows, layers, E]
        if self.layer is None:
            return layers.mean(dim=-2)
        if not 0 <= self.layer < layers.size(-2):
            raise InputError(
                f"layer {self.layer}: this upstream's hidden states are 0 to {layers.size(-2) - 1}."
            )
        return layers.select(-2, self.layer)


def _storable(name: str, given: str | Path | None) -> pooling.Method:
    """The pooling; InputError where it is learned, or where statistics lack or are not used."""
    method = pooling.method(name)
    if method.learned is not None:
        raise InputError(
            f"{method.name}: is learned with a head, so it gives no vector without one: choose another."
        )
    if method.needs_statistics and given is None:
        raise InputError(
            f"{method.name}: needs training statistics: give statistics=FILE, the pooling_statistics.safetensors of "
            "an experiment with this pooling and upstream."
        )
    if given is not None and not method.needs_statistics:
        raise InputError(f"{method.name}: takes no statistics: leave {given} out.")
    return method


def _device(given: str | torch.device | None) -> torch.device:
    name = given or ("cuda" if torch.cuda.is_available() else "cpu")
    with suppress(RuntimeError):
        device = torch.device(name)
        if device.type == "cpu" or (
            device.type == "cuda" and (device.index or 0) < torch.cuda.device_count()
        ):
            return device
    raise InputError(f"device {name}: expected cpu, or cuda where torch sees one.")


def _checked(name: str, given: np.ndarray | Tensor) -> int:
    """Number of samples of a waveform; InputError where it is none."""
    wav = torch.as_tensor(given)
    if wav.ndim != 1 or not wav.is_floating_point():
        raise InputError(
            f"{name}: Expected floating samples [samples] at 16 kHz, but got {list(wav.shape)} {wav.dtype}: average "
            "channels, and divide whole numbers by their full scale."
        )
    if not wav.isfinite().all():
        raise InputError(f"{name}: holds NaN or infinite samples.")
    return len(wav)


def _read(given: Waveform, device: torch.device) -> Tensor:
    """Samples float32 [samples]."""
    wav = audio.read(given) if isinstance(given, (str, Path)) else given
    return torch.as_tensor(wav).detach().to(device, torch.float32)
