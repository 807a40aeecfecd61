"""What all upstreams with codes share: one forward pass gives hidden states and codes, and publishes the codes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from .. import pooling
from ..errors import InputError
from ..pooling import Counts
from .handover import Codes, mask_padding, publish

#: Frames by which S3PRL lets features and waveforms differ (its Featurizer's TOLERABLE_SEQLEN_DIFF).
TOLERABLE_DIFFERENCE = 5


class Result(dict[str, Any]):
    """An upstream's result that also answers to the poolings with weights (`-s vq_lp`), computed when asked for."""

    def __init__(self, values: dict[str, Any], weighted: Callable[[pooling.Method], list[Tensor]]) -> None:
        super().__init__(values)
        self._weighted = weighted

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or selected_pooling(str(key)) is not None

    def __missing__(self, key: str) -> list[Tensor]:
        method = selected_pooling(key)
        if method is None:
            raise KeyError(key)
        return self._weighted(method)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


def selected_pooling(selection: str) -> pooling.Method | None:
    """The pooling with a weight per frame that a feature selection (S3PRL's `-s`) names, if it names one."""
    names = [name for name in pooling.methods() if pooling.method(name).weights_alone]
    folded = {name.lower().replace("-", "_"): name for name in names}
    name = folded.get(selection.lower().replace("-", "_"))
    return pooling.method(name) if name else None


class WithCodes:
    """Mixin for an S3PRL ``UpstreamBase``: adds ``codes`` and ``code_lengths`` to its result.

    A class that uses it sets ``codebook_sizes``, ``window`` and ``hop`` and defines `quantize`. Hidden states are
    those of the other base class, unchanged.

    Result of a call with wavs, a list of B float [samples] tensors at 16 kHz:
        hidden_states: as the plain upstream gives them.
        codes: int64 [B, T, G], -1 beyond ``code_lengths``.
        code_lengths: int64 [B], frames that the audio really has.
        vq_lp, vq_squash_and, ...: hidden states whose mean over the frames that S3PRL's Featurizer keeps is the
            VQ-pooled vector: frame t times ``F * w_t``, with F such frames and the pooling's weights w. So
            `-s vq_lp` turns any mean-pooling head of S3PRL into a VQ-pooled one. What needs training
            statistics takes those of `use_statistics`.
    """

    codebook_sizes: tuple[int, ...]
    #: Samples that a frame sees, and samples from one frame to the next.
    window: int
    hop: int
    #: Training counts for the selections that need them.
    counts: Counts | None = None
    #: Frames that the shortest usable utterance has.
    min_frames = 1
    #: Samples of each utterance of the batch at hand.
    samples: Sequence[int] = ()

    def code_lengths(self, samples: Sequence[int]) -> list[int]:
        """Real frames of utterances with these numbers of samples; below 1 if an utterance is too short."""
        return [(n - self.window) // self.hop + 1 for n in samples]

    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        """Code indices of the forward pass that has just given ``result``.

        Args:
            result: of the class behind this one: ``hidden_states`` and whatever else it gives.
            wavs: what it was called with, B float [samples]; for codes that another model makes.

        Returns:
            int64 [B, T, G], T at least the frames of the longest utterance; what stands in padding is ignored.
        """
        raise NotImplementedError

    @property
    def transformer(self) -> nn.Module | None:
        """The module behind everything that codes are made from; None where there is none."""
        return None

    def without_padding(self) -> AbstractContextManager[None] | None:
        """A context that keeps an utterance's numbers independent of its batch; None if that needs equal lengths."""
        return None

    @torch.no_grad()
    def codes_alone(self, wav: Tensor) -> Tensor:
        """Codes int64 [T, G] of one waveform [samples], without the rest of the model where that can be left out.

        They are those of a call with this waveform alone, up to rounding. Nothing is published.

        Raises:
            InputError: too short, or more memory is needed than there is.
        """
        (length,) = self._long_enough([len(wav)])
        if not wav.isfinite().all():
            raise InputError("The audio holds NaN or infinite samples.")
        parts = self.quantized_alone(wav)
        if parts is not None:
            return torch.cat([part.squeeze(0) for part in parts])[:length]
        result = self([wav])
        publish(None)
        return result["codes"].squeeze(0)[: int(result["code_lengths"])]

    @torch.no_grad()
    def codes_of(self, wavs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """``codes`` and ``code_lengths`` of a call with a batch, to the bit, without the `transformer`.

        Nothing is published. Where there is no transformer behind the codes, the whole model runs.

        Raises:
            InputError: as a call does.
        """
        transformer = self.transformer
        if transformer is None:
            result = self(wavs)
            publish(None)
            return result["codes"], result["code_lengths"]
        publish(None)
        self.samples = samples = [len(wav) for wav in wavs]
        lengths = self._long_enough(samples)
        handle = transformer.register_forward_pre_hook(_stop)
        try:
            super().__call__(wavs)  # type: ignore[misc]
        except _Reached as reached:
            given = reached.given
        finally:
            handle.remove()
        frames = None
        if given.is_floating_point():  # not tokens, which S3PRL's BERT takes in several calls
            check_finite(wavs, [given], lengths)
            frames = given.size(1)
        indices = self.quantize({}, wavs)[:, :frames]
        real = torch.tensor(lengths, device=indices.device).clamp(max=indices.size(1))
        return mask_padding(indices, real), real

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor] | None:
        """Codes int64 [1, t, G] of consecutive pieces of a waveform; None where that takes the whole model."""
        return None

    def _long_enough(self, samples: Sequence[int]) -> list[int]:
        """`code_lengths`; InputError where one is below `min_frames`."""
        lengths = self.code_lengths(samples)
        for index, length in enumerate(lengths):
            if length < self.min_frames:
                raise InputError(
                    f"Utterance {index} of the batch has {samples[index]} samples, too short for "
                    f"{self.min_frames} frame(s) of {type(self).__module__.split('.')[-2:][0]}: leave it out."
                )
        return lengths

    def __call__(self, wavs: list[Tensor], *args: Any, **kwargs: Any) -> dict[str, Any]:
        publish(None)
        self.samples = samples = [len(wav) for wav in wavs]
        lengths = self._long_enough(samples)
        result = super().__call__(wavs, *args, **kwargs)  # type: ignore[misc]
        check_finite(wavs, result["hidden_states"], lengths)
        frames = result["hidden_states"][0].size(1)
        indices = self.quantize(result, wavs)
        if abs(indices.size(1) - frames) >= TOLERABLE_DIFFERENCE:
            raise InputError(
                f"{type(self).__module__.split('.')[-2:][0]} gives codes of {indices.size(1)} frames, but hidden "
                f"states of {frames}: both must be made at the same rate."
            )
        indices = indices[:, :frames]
        result["code_lengths"] = torch.tensor(lengths, device=indices.device).clamp(max=frames)
        result["codes"] = mask_padding(indices, result["code_lengths"])
        rate = self.get_downsample_rates("hidden_states")  # type: ignore[attr-defined]
        kept = tuple(min(round(n / rate), frames) for n in samples)
        codes = Codes(result["codes"], result["code_lengths"], self.codebook_sizes, kept)
        publish(codes)
        return Result(result, lambda method: self._weighted(method, codes, result["hidden_states"]))

    def _weighted(
        self, method: pooling.Method, codes: Codes, hidden_states: Sequence[Tensor]
    ) -> list[Tensor]:
        if method.needs_statistics and self.counts is None:
            raise InputError(
                f"-s {method.name} needs training statistics: give them with -g, such as the "
                f"pooling_statistics.safetensors of an experiment with pooling {method.name} on this upstream."
            )
        kept = codes.lengths.new_tensor(codes.frames)
        real = kept if method.all_frames else torch.minimum(codes.lengths, kept)
        weights = pooling.weights(
            method.name, codes.indices, real, counts=self.counts if method.needs_statistics else None
        )
        scale = weights * kept[:, None]  # [B, T]
        return [states * scale[:, :, None].to(states.dtype) for states in hidden_states]

    def use_statistics(self, path: str | None) -> None:
        """Take training counts from a file (S3PRL's `-g`); InputError where they are another upstream's."""
        if path is not None:
            self.counts = Counts.load(path, self.identity())

    def identity(self) -> dict[str, object]:
        """What statistics of the codes belong to: the kind of upstream and its `fingerprint`."""
        return {"upstream": type(self).__module__.split(".")[-2:][0], "weights": self.fingerprint()}

    def fingerprint(self) -> str:
        """`hash_of` the weights that hidden states and codes depend on."""
        return hash_of(self.fingerprinted())

    def fingerprinted(self) -> dict[str, Tensor]:
        """Tensors that `fingerprint` covers."""
        return self.state_dict()  # type: ignore[attr-defined]


class _Reached(Exception):
    """Carries what the transformer was given out of the forward pass."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given


def _stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    raise _Reached(args[0])


def check_finite(wavs: Sequence[Tensor], states: Sequence[Tensor], lengths: Sequence[int]) -> None:
    """InputError where hidden states, L tensors [B, T, D], are not finite: their codes would be code 0.

    The first and the last are looked at: what is not finite in between is not finite in the last.
    """
    finite = states[0].isfinite().all(dim=-1) & states[-1].isfinite().all(dim=-1)  # [B, T]
    real = torch.arange(finite.size(1)) < torch.tensor(lengths)[:, None]
    finite |= ~real.to(finite.device)
    if finite.all():
        return
    index = int((~finite.all(dim=1)).nonzero()[0])
    heard = bool(wavs[index].isfinite().all())
    problem = (
        "its audio is finite, but the upstream's hidden states are not: its weights or the audio's level are at fault"
        if heard
        else "its audio holds NaN or infinite samples"
    )
    raise InputError(f"Utterance {index} of the batch ({len(wavs[index])} samples): {problem}.")


def best_entries(logits: Tensor, groups: int) -> Tensor:
    """Codes int64 [..., groups] of logits [..., groups * V]; InputError where they are not finite."""
    logits = logits.unflatten(-1, (groups, -1))
    if not logits.amax(dim=-1).isfinite().all():
        raise InputError(
            "The logits of the codes are not finite: the audio, its level or the weights are at fault."
        )
    return logits.argmax(dim=-1)


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of an upstream's weights. Codebooks, statistics and stores recognise the upstream by it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if name.endswith("._pseudo_wavs"):
            continue  # S3PRL's preprocessor (mel, linear) draws this noise anew, and uses only its shape
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
