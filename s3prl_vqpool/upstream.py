"""What every upstream with codes shares: one forward gives hidden states and codes, and publishes the codes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .codes import Codes, mask_padding, publish
from .errors import InputError


class WithCodes:
    """Mixin in front of an S3PRL ``UpstreamBase``: adds ``codes`` and ``code_lengths`` to its result.

    A class that uses it sets ``codebook_sizes`` and defines `code_lengths` and `quantize`. Hidden states are
    those of the class behind it, untouched.

    Result of a call with wavs, a list of B float [samples] tensors at 16 kHz:
        hidden_states: as the plain upstream gives them.
        codes: int64 [B, T, G], -1 beyond ``code_lengths``.
        code_lengths: int64 [B], frames that the audio really has.
    """

    codebook_sizes: tuple[int, ...]
    #: Frames that the shortest usable utterance has.
    min_frames = 1

    def code_lengths(self, samples: Sequence[int]) -> list[int]:
        """Real frames of utterances with so many samples; below 1 where an utterance is too short."""
        raise NotImplementedError

    def quantize(self, result: dict[str, Any]) -> Tensor:
        """Code indices of the forward pass that has just given ``result``: int64 [B, >= T, G]."""
        raise NotImplementedError

    def __call__(self, wavs: list[Tensor], *args: Any, **kwargs: Any) -> dict[str, Any]:
        publish(None)
        samples = [len(wav) for wav in wavs]
        lengths = self.code_lengths(samples)
        for index, length in enumerate(lengths):
            if length < self.min_frames:
                raise InputError(
                    f"Utterance {index} of the batch has {samples[index]} samples, too short for "
                    f"{self.min_frames} frame(s) of {type(self).__module__.split('.')[-2:][0]}: leave it out."
                )
        result = super().__call__(wavs, *args, **kwargs)  # type: ignore[misc]
        frames = result["hidden_states"][0].size(1)
        indices = self.quantize(result)[:, :frames]
        result["code_lengths"] = torch.tensor(lengths, device=indices.device).clamp(max=frames)
        result["codes"] = mask_padding(indices, result["code_lengths"])
        rate = self.get_downsample_rates("hidden_states")  # type: ignore[attr-defined]
        publish(
            Codes(
                result["codes"],
                result["code_lengths"],
                self.codebook_sizes,
                tuple(min(round(n / rate), frames) for n in samples),
            )
        )
        return result

    def fingerprint(self) -> str:
        """SHA-256 of the weights that hidden states and codes depend on."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.fingerprinted().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def fingerprinted(self) -> dict[str, Tensor]:
        """Tensors that `fingerprint` covers."""
        return self.state_dict()  # type: ignore[attr-defined]
