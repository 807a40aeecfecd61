"""One batch through the upstream: codes, pooled vectors of every layer, averaged frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby

import torch
from torch import Tensor

from .. import codes, pooling
from ..heads import MEAN
from ..upstream import WithCodes

Encoded = dict[str, Tensor]


class Encoder:
    """Gives each utterance the numbers that it gets when it is alone in its batch.

    Where the upstream has no way to keep padding out (`WithCodes.without_padding`), utterances of the same
    length only share a forward.

    Args:
        upstream: in eval mode, on its device.
        poolings: names of poolings with weights, and `mean`.
        frames: whether averaged frames are wanted.
        dtype: of the vectors and frames.
    """

    def __init__(
        self, upstream: WithCodes, poolings: Sequence[str], frames: bool, dtype: torch.dtype
    ) -> None:
        self.upstream, self.poolings, self.frames, self.dtype = upstream, poolings, frames, dtype

    def __call__(self, wavs: Sequence[Tensor]) -> list[Encoded]:
        """For each of B waveforms [samples] on the upstream's device, on the CPU:

        ``codes`` int64 [T, G]; ``vectors.NAME`` [layers, D] for each pooling; ``frames`` [T, D] if wanted.
        """
        padding = self.upstream.without_padding()
        with torch.inference_mode(), padding or nullcontext(), exact_convolutions():
            together = [list(wavs)] if padding is not None else [list(same) for _, same in groupby(wavs, len)]
            return [one for group in together for one in self._forward(group)]

    def _forward(self, wavs: list[Tensor]) -> Iterator[Encoded]:
        result = self.upstream(wavs)
        codes.publish(None)
        indices, lengths, states = result["codes"], result["code_lengths"], result["hidden_states"]
        stored: dict[str, Tensor] = {}
        for name in self.poolings:
            if name == MEAN:
                rate = self.upstream.get_downsample_rates("hidden_states")  # type: ignore[attr-defined]
                kept = lengths.new_tensor([round(len(wav) / rate) for wav in wavs])
                weights = pooling.weights("AP", indices, torch.minimum(kept.clamp(min=1), lengths))
            else:
                weights = pooling.weights(name, indices, lengths)
            vectors = torch.stack([pooling.pool(layer.float(), weights) for layer in states], dim=1)
            stored[f"vectors.{name}"] = vectors.to(self.dtype).cpu()  # [B, layers, D]
        if self.frames:
            mean = sum(layer.float() for layer in states[1:]) + states[0].float()
            stored["frames"] = (mean / len(states)).to(self.dtype).cpu()
        indices = indices.cpu()
        for k, length in enumerate(lengths.tolist()):
            one = {name: tensor[k] for name, tensor in stored.items()}
            if self.frames:
                one["frames"] = one["frames"][:length]
            yield {"codes": indices[k, :length], **one}


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN without TF32 and without choosing algorithms by timing: the same numbers each time, to float32."""
    flags: AbstractContextManager = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )
    with flags:
        yield
