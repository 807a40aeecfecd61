"""S3PRL's baseline features with codes: the nearest k-means centroids of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from s3prl.upstream.baseline.expert import UpstreamExpert as _Baseline
from torch import Tensor

from s3prl_vqpool.kmeans import KMeansCodebooks
from s3prl_vqpool.upstream import WithCodes


class UpstreamExpert(WithCodes, _Baseline):
    """S3PRL's baseline expert (s3prl/upstream/baseline) whose result also holds ``codes``.

    Features are computed utterance by utterance, so neither they nor the codes depend on the batch.

    Args:
        model_config: S3PRL's YAML file of the features.
        codebooks: safetensors file of `KMeansCodebooks` fitted on these features.
        statistics: file of training counts, for selections such as `-s vq_bp`.
    """

    #: S3PRL divides by the standard deviation over the utterance's frames, which one frame has not.
    min_frames = 2

    def __init__(
        self, model_config: str, codebooks: str, statistics: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model_config, **kwargs)
        self.codebooks = KMeansCodebooks.load(codebooks)
        self.codebook_sizes = self.codebooks.sizes
        options = self.config["kaldi"][self.config["kaldi"]["feat_type"]]
        self.window = round(options["frame_length"] * 16)
        self.use_statistics(statistics)

    def code_lengths(self, samples: Sequence[int]) -> list[int]:
        return [(n - self.window) // self.downsample_rate + 1 for n in samples]

    @torch.no_grad()
    def quantize(self, result: dict[str, Any]) -> Tensor:
        return self.codebooks.quantize(result["hidden_states"][0])

    def fingerprinted(self) -> dict[str, Tensor]:
        return {f"codebook.{g}": centroids for g, centroids in enumerate(self.codebooks.centroids)}
