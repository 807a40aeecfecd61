"""One batch through the upstream: codes, pooled vectors of every layer, averaged frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .. import codes, pooling
from ..codes.blocks import up_to_rounding
from ..codes.precision import FLOAT32, transformer_in
from ..codes.upstream import WithCodes
from ..pooling.point import moments

Encoded = dict[str, Tensor]
#: Names of poolings, each with its keyword arguments of `pooling.weights`.
Poolings = Mapping[str, Mapping[str, Any]]


class Encoder:
    """Gives each utterance the same numbers as if it were alone in its batch.

    Where the upstream has no way to keep padding out (`WithCodes.without_padding`), utterances of the same
    length only share a forward.

    Args:
        upstream: in eval mode, on its device.
        frames: whether averaged frames are wanted.
        dtype: of the vectors and frames.
        precision: of the transformer, one that `precision.require` lets pass.
    """

    def __init__(
        self,
        upstream: WithCodes,
        poolings: Poolings,
        frames: bool,
        dtype: torch.dtype,
        precision: str = FLOAT32,
    ) -> None:
        self.upstream, self.poolings, self.frames, self.dtype = upstream, poolings, frames, dtype
        self.precision = precision

    def __call__(self, wavs: Sequence[Tensor], known: Sequence[Tensor] | None = None) -> list[Encoded]:
        """For each of B waveforms [samples] on the upstream's device, on the CPU:

        ``codes`` int64 [T, G]; ``vectors.NAME`` [layers, D] for each pooling; ``frames`` [T, D] if wanted.

        Args:
            known: codes int64 [T, G] of each, where they shall stand in for the upstream's.
        """
        padding = self.upstream.without_padding()
        batch = list(zip(wavs, [None] * len(wavs) if known is None else known))
        shorter = transformer_in(self.precision, self.upstream)
        with (
            torch.inference_mode(),
            padding or nullcontext(),
            exact_convolutions(),
            up_to_rounding(),
            shorter,
        ):
            together = (
                [batch]
                if padding is not None
                else [list(same) for _, same in groupby(batch, lambda one: len(one[0]))]
            )
            return [one for group in together for one in self._forward(*zip(*group))]

    def _forward(self, wavs: Sequence[Tensor], known: Sequence[Tensor | None]) -> Iterator[Encoded]:
        result = self.upstream(list(wavs))
        codes.publish(None)
        indices, lengths, states = result["codes"], result["code_lengths"], result["hidden_states"]
        given = [each for each in known if each is not None]
        if given:
            indices = pad_sequence(given, batch_first=True).to(indices.device)
        samples, rate = [len(wav) for wav in wavs], self.upstream.get_downsample_rates("hidden_states")  # type: ignore[attr-defined]
        stored: dict[str, Sequence[Tensor]] = {}
        for name, options in self.poolings.items():
            stored[f"vectors.{name}"] = self._vectors(name, options, states, indices, lengths, samples, rate)
        if self.frames:
            mean = sum(layer.float() for layer in states[1:]) + states[0].float()
            stored["frames"] = (mean / len(states)).to(self.dtype).cpu()
        indices = indices.cpu()
        for k, length in enumerate(lengths.tolist()):
            one = {name: tensor[k] for name, tensor in stored.items()}
            if self.frames:
                one["frames"] = one["frames"][:length]
            yield {"codes": indices[k, :length], **one}

    def _vectors(
        self,
        name: str,
        options: Mapping[str, Any],
        states: Sequence[Tensor],
        indices: Tensor,
        lengths: Tensor,
        samples: Sequence[int],
        rate: int,
    ) -> Sequence[Tensor]:
        """Of each of B utterances [layers, E], on the CPU, of states [B, T, D] and codes [B, T, G]."""
        weights = weights_of(name, options, indices, lengths, samples, rate)
        method = pooling.method(name)
        vectors = torch.stack([moments(method, layer.float(), weights) for layer in states], dim=1)
        return vectors.to(self.dtype).cpu()  # type: ignore[return-value]


def weights_of(
    name: str, options: Mapping[str, Any], indices: Tensor, lengths: Tensor, samples: Sequence[int], rate: int
) -> Tensor:
    """Weights [B, T] of a pooling with its options, of codes [B, T, G] of utterances with so many ``samples``.

    Of a pooling that takes the standard deviation too, those of its mean.
    """
    if pooling.method(name).all_frames:
        lengths = torch.minimum(lengths, kept_frames(samples, rate).to(lengths.device))
    return pooling.weights(pooling.method(name).weights_name, indices, lengths, **options)


def kept_frames(samples: Sequence[int], rate: int) -> Tensor:
    """Frames int64 [B] that S3PRL's Featurizer keeps of so many samples at ``rate`` samples a frame, at least 1."""
    return torch.tensor([max(round(n / rate), 1) for n in samples])


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN without TF32 and without choosing algorithms by timing: the same numbers each time, to float32."""
    flags: AbstractContextManager = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )
    with flags:
        yield
