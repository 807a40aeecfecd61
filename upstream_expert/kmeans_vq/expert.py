"""Any upstream of S3PRL with codes: the nearest k-means centroids of each frame of its hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from s3prl.upstream.baseline.expert import UpstreamExpert as Baseline
from s3prl.upstream.wav2vec2.wav2vec2_model import ConvFeatureExtractionModel
from torch import Tensor, nn

from s3prl_vqpool.codes import blocks, partial
from s3prl_vqpool.codes.codebook import Codebook
from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.codes.plain import plain_upstream
from s3prl_vqpool.codes.upstream import WithCodes, check_finite, hash_of
from s3prl_vqpool.errors import InputError


class _Upstream(nn.Module):
    """An upstream of S3PRL inside: its results, its frame rate."""

    def __init__(self, upstream: nn.Module) -> None:
        super().__init__()
        self.upstream = upstream

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        return dict(self.upstream(wavs))

    def get_downsample_rates(self, key: str) -> int:
        return self.upstream.get_downsample_rates(key)  # type: ignore[operator]


class UpstreamExpert(WithCodes, _Upstream):
    """An upstream of S3PRL whose result also holds ``codes`` and ``code_lengths``.

    Codes depend on the batch if the features do. The features of S3PRL's baselines (mfcc, fbank) do not.

    Args:
        codebook: which upstream, which codebooks.
        refresh: download the upstream's checkpoint again (`-r`).

    Raises:
        InputError: S3PRL has no such upstream, its checkpoint names code, or its weights are others than those
            that the codebooks were fitted on.
    """

    def __init__(self, codebook: Codebook, refresh: bool = False) -> None:
        super().__init__(plain_upstream(codebook.upstream, codebook.checkpoint, refresh))
        for module in self.upstream.modules():
            if type(module) is ConvFeatureExtractionModel:  # also of HuBERT and data2vec
                blocks.install(module)
        self.codebooks = KMeansCodebooks.load(codebook.codebooks)
        fitted_on = self.codebooks.identity.get("weights")
        if fitted_on is not None and fitted_on != hash_of(self.upstream.state_dict()):
            raise InputError(
                f"{codebook.codebooks}: was fitted on other weights of {codebook.upstream}: give the same -k, or fit "
                "again with vqpool kmeans."
            )
        self.codebook_sizes = self.codebooks.sizes
        self.window, self.hop = codebook.window, codebook.hop
        if isinstance(self.upstream, Baseline):
            self.min_frames = (
                2  # it divides by the standard deviation over time, which one frame does not have
            )
        self._stops: bool | None = None  # not tried yet
        self.use_statistics(codebook.statistics)

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        states = result["hidden_states"]
        if self.codebooks.centroids[0].device != states[0].device:
            self.codebooks = self.codebooks.to(states[0].device)
        return self.codebooks.quantize_states(states)

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor] | None:
        last = max(self.codebooks.layers, default=0)
        if self._stops is None:
            self._stops = partial.stops_after(self.upstream, last)
        if not self._stops:
            return None
        states = partial.hidden_states(self.upstream, [wav], last)
        check_finite([wav], states, self.code_lengths([len(wav)]))
        return iter([self.quantize({"hidden_states": states}, [wav])])

    def without_padding(self) -> AbstractContextManager[None] | None:
        apart = isinstance(self.upstream, Baseline) and "kaldi" in self.upstream.config  # computed one by one
        return nullcontext() if apart else None

    def fingerprinted(self) -> dict[str, Tensor]:
        codebooks = {f"codebook.{g}": centroids for g, centroids in enumerate(self.codebooks.centroids)}
        return {**codebooks, **self.state_dict()}
