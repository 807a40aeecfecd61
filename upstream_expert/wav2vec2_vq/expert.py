"""wav2vec 2.0 with its codes: S3PRL's own upstream expert, plus the indices of its quantizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from s3prl.upstream.wav2vec2.expert import UpstreamExpert as _Wav2Vec2
from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig, Wav2Vec2Config, Wav2Vec2Model
from torch import Tensor, nn
from torch.nn import functional

from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.checkpoints.models import build, from_memory
from s3prl_vqpool.codes import blocks, pieces
from s3prl_vqpool.codes.padding import convolved_apart, masks_padding
from s3prl_vqpool.codes.upstream import WithCodes, best_entries
from s3prl_vqpool.errors import InputError


class UpstreamExpert(WithCodes, _Wav2Vec2):
    """S3PRL's wav2vec 2.0 expert whose result also holds ``codes`` and ``code_lengths``.

    The code of frame t in codebook g is the argmax over ``quantizer.weight_proj(z_t)``, with z the layer-normed
    CNN output of the very forward pass that gave the hidden states, before masking, without Gumbel noise
    (arXiv 2304.03940, section 3). Base-size models normalise the first convolution over time (GroupNorm), so
    there both hidden states and codes of an utterance depend on the padding of its batch, as in S3PRL.

    Args:
        ckpt: path of a checkpoint as fairseq wrote it, as S3PRL converted it, or as `vqpool convert` wrote it.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: the checkpoint is damaged, another model's, or holds no quantizer.
    """

    def __init__(self, ckpt: str, model_config: str | None = None, **kwargs: Any) -> None:
        checkpoint = fairseq.load(ckpt)
        _require_quantizer(ckpt, checkpoint)
        model = build(checkpoint, ckpt, Wav2Vec2Model, Wav2Vec2Config, AudioPretrainingConfig)
        from_memory(_Wav2Vec2.__init__, load_converted_model=lambda _: model)(self, ckpt, **kwargs)
        quantizer = self.model.quantizer
        self.codebook_sizes = (quantizer.num_vars,) * quantizer.groups
        self._latents: Tensor | None = None
        self.model.layer_norm.register_forward_hook(self._keep_latents)
        blocks.install(self.model.feature_extractor)
        self.window, self.hop = pieces.geometry(self.model.feature_extractor)
        self.use_statistics(model_config)

    def _keep_latents(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._latents = output.detach()

    @property
    def transformer(self) -> nn.Module:
        return self.model.encoder

    def without_padding(self) -> AbstractContextManager[None] | None:
        return convolved_apart(self.model, lambda: self.samples) if masks_padding(self.model) else None

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor] | None:
        if not pieces.divisible(self.model.feature_extractor) or self.model.crop_seq_to_multiple != 1:
            return None
        wave = functional.layer_norm(wav, wav.shape) if self.wav_normalize else wav
        return map(self._quantized, pieces.features(self.model.feature_extractor, wave))

    def _quantized(self, features: Tensor) -> Tensor:
        self.model.layer_norm(features.transpose(1, 2))
        return self.quantize({}, ())

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        latents, self._latents = self._latents, None
        quantizer = self.model.quantizer
        with torch.autocast(latents.device.type, enabled=False):
            logits = quantizer.weight_proj(latents.to(quantizer.vars.dtype))
        return best_entries(logits, quantizer.groups)


def _require_quantizer(ckpt: str, checkpoint: fairseq.Converted) -> None:
    if "vq_type" in checkpoint.model_cfg:
        raise InputError(f"{ckpt}: is a (vq-)wav2vec, not wav2vec 2.0: use -u vq_wav2vec_vq_custom.")
    if "quantizer.vars" in checkpoint.model_weight:
        return
    kind = str(checkpoint.model_cfg.get("_name") or checkpoint.model_cfg.get("arch") or "wav2vec2")
    if not kind.startswith("wav2vec"):
        raise InputError(
            f"{ckpt}: is a {kind}, which has no quantizer: fit codebooks with vqpool kmeans and use -u kmeans_vq."
        )
    raise InputError(
        f"{ckpt}: this wav2vec 2.0 has no quantizer (fine-tuned checkpoints drop it), so there are no codes: "
        "use the pre-trained checkpoint, or S3PRL's wav2vec2_custom with a downstream that needs no codes."
    )
