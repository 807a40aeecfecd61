"""vq-wav2vec with its codes: S3PRL's own upstream expert, plus the indices of its quantizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from s3prl.upstream.vq_wav2vec.expert import UpstreamExpert as _VqWav2Vec
from s3prl.upstream.wav2vec.wav2vec_model import Wav2VecConfig, Wav2VecModel
from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig
from torch import Tensor, nn

from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.checkpoints.models import build, from_memory
from s3prl_vqpool.codes import pieces
from s3prl_vqpool.codes.upstream import WithCodes, best_entries
from s3prl_vqpool.errors import InputError

_FRAMES = 100
"""Frames whose distances to all centroids are held at once, of the k-means model."""


class UpstreamExpert(WithCodes, _VqWav2Vec):
    """S3PRL's vq-wav2vec expert (arXiv 1910.05453) whose result also holds ``codes`` and ``code_lengths``.

    Codes are those that the forward pass itself has quantized with, every 10 ms; of the Gumbel model the argmax
    of the logits, without Gumbel noise also while training. All convolutions are normalised over time
    (GroupNorm), so features and codes of an utterance depend on the padding of its batch, as in S3PRL.

    Args:
        ckpt: path of a checkpoint as fairseq wrote it, as S3PRL converted it, or as `vqpool convert` wrote it.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: the checkpoint is damaged, another model's, or holds no quantizer.
    """

    def __init__(self, ckpt: str, model_config: str | None = None, **kwargs: Any) -> None:
        checkpoint = fairseq.load(ckpt)
        if checkpoint.model_cfg.get("vq_type", "none") not in ("gumbel", "kmeans"):
            raise InputError(
                f"{ckpt}: is no vq-wav2vec (its config has no vq_type), so there are no codes: for wav2vec 2.0 use "
                "-u wav2vec2_vq_custom."
            )
        # fairseq takes `infonce`, which only its loss uses, from elsewhere in its config
        checkpoint = replace(checkpoint, model_cfg={"infonce": False, **checkpoint.model_cfg})
        model = build(checkpoint, ckpt, Wav2VecModel, Wav2VecConfig, AudioPretrainingConfig)
        from_memory(_VqWav2Vec.__init__, load_converted_model=lambda _: model)(self, ckpt, **kwargs)
        quantizer = self.model.vector_quantizer
        self.codebook_sizes = (quantizer.num_vars,) * quantizer.groups
        self._logits: Tensor | None = None
        if hasattr(quantizer, "weight_proj"):
            quantizer.weight_proj.register_forward_hook(self._keep_logits)
        self.window, self.hop = pieces.geometry(self.model.feature_extractor)
        self.use_statistics(model_config)

    def _keep_logits(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._logits = output.detach()

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor]:
        """Every layer normalises over time, so the convolutions take the whole waveform; the aggregator is left out."""
        extractor, quantizer = self.model.feature_extractor, self.model.vector_quantizer
        pieces.require_memory(pieces.bytes_needed(extractor, len(wav)), wav.device)
        features = extractor(wav[None])  # [1, C, T]
        if hasattr(quantizer, "weight_proj"):
            z = features.transpose(1, 2)
            quantizer.weight_proj(z.reshape(-1, z.size(2)))
            yield self.quantize({"z": z}, ())
            return
        projected = quantizer.projection(features)
        vars(quantizer.projection)["forward"] = lambda part: part
        try:
            for part in projected.split(_FRAMES, dim=2):
                yield quantizer(part, produce_targets=True)["targets"]
        finally:
            del vars(quantizer.projection)["forward"]

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        logits, self._logits = self._logits, None
        if logits is None:
            return result["codeids"]
        return best_entries(logits, len(self.codebook_sizes)).view(*result["z"].shape[:2], -1)
