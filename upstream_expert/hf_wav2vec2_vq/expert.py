"""wav2vec 2.0 in Hugging Face's format with its codes: S3PRL's own upstream expert, plus the quantizer's indices."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from s3prl.upstream.hf_wav2vec2.expert import UpstreamExpert as _HfWav2Vec2
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    UniSpeechForPreTraining,
    UniSpeechModel,
    UniSpeechSatForPreTraining,
    UniSpeechSatModel,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)
from transformers.utils import logging

from s3prl_vqpool.checkpoints import sizes
from s3prl_vqpool.checkpoints.weights import require_finite
from s3prl_vqpool.codes import blocks, pieces
from s3prl_vqpool.codes.padding import convolved_apart
from s3prl_vqpool.codes.upstream import WithCodes, best_entries
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import disguised

#: Per `model_type` of config.json: the model with a quantizer, and its attribute that S3PRL's expert runs.
MODELS: dict[str, tuple[Any, str]] = {
    "wav2vec2": (Wav2Vec2ForPreTraining, "wav2vec2"),
    "wav2vec2-conformer": (Wav2Vec2ConformerForPreTraining, "wav2vec2_conformer"),
    "unispeech": (UniSpeechForPreTraining, "unispeech"),
    "unispeech-sat": (UniSpeechSatForPreTraining, "unispeech_sat"),
}
#: Those whose encoder masks padding; padding changes the output of Conformer's convolutions.
_MASKED = (Wav2Vec2Model, UniSpeechModel, UniSpeechSatModel)
_PREPROCESSOR = "preprocessor_config.json"
#: transformers 5 loads what the config says, float16 too, where 4 loaded float32.
_DTYPE = "torch_dtype" if transformers.__version__ < "5" else "dtype"


class UpstreamExpert(WithCodes, _HfWav2Vec2):
    """S3PRL's hf_wav2vec2 expert whose result also holds ``codes`` and ``code_lengths``.

    The code of frame t in codebook g is the argmax over ``quantizer.weight_proj(z_t)``, with z the layer-normed
    CNN output of the very forward pass that gave the hidden states, without Gumbel noise (arXiv 2304.03940,
    section 3). It may also be a Conformer or a UniSpeech, whose quantizers are the same; S3PRL's expert gives these
    random weights. UniSpeech-SAT quantizes what its sixth layer gives (utterance_contrastive_layer in Microsoft's
    UniSpeech-SAT/fairseq/models/unispeech-sat/unispeech_sat.py), through layer_norm_for_extract in models with
    do_stable_layer_norm; a config.json with utterance_contrastive_layer names another layer.

    The waveform is normalised as the checkpoint's preprocessor_config.json says; S3PRL's expert takes that of
    facebook/wav2vec2-base where there is none, and so does this one, without the network.

    Args:
        ckpt: a name on Hugging Face's hub, or a folder; safetensors are preferred, and no code of it is run.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: no such checkpoint, damaged, another architecture, or without a quantizer.
    """

    def __init__(self, ckpt: str, model_config: str | None = None) -> None:
        nn.Module.__init__(self)
        self.extracter = _extractor(ckpt)
        whole, attribute = _load(ckpt)
        self.model, self.quantizer = getattr(whole, attribute), whole.quantizer
        self.coded_layer, self.norm = _coded_layer(whole, ckpt)
        self.codebook_sizes = (self.quantizer.num_vars,) * self.quantizer.num_groups
        self._latents: Tensor | None = None
        self.model.feature_projection.layer_norm.register_forward_hook(self._keep_latents)
        blocks.install(self.model.feature_extractor)
        self.window, self.hop = pieces.geometry(self.model.feature_extractor)
        self.use_statistics(model_config)

    def _keep_latents(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._latents = output.detach()

    @property
    def transformer(self) -> nn.Module | None:
        return self.model.encoder if self.coded_layer is None else None

    def without_padding(self) -> AbstractContextManager[None] | None:
        if not isinstance(self.model, _MASKED):
            return None
        return convolved_apart(self.model, lambda: self.samples)

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor] | None:
        if self.coded_layer is not None or not pieces.divisible(self.model.feature_extractor):
            return None
        values = self.extracter([wav.cpu().numpy()], return_tensors="pt", sampling_rate=audio.SAMPLE_RATE)
        wave = values["input_values"][0].to(wav.device)
        return map(self._quantized, pieces.features(self.model.feature_extractor, wave))

    def _quantized(self, features: Tensor) -> Tensor:
        self.model.feature_projection.layer_norm(features.transpose(1, 2))
        return self.quantize({}, ())

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        latents, self._latents = self._latents, None
        if self.coded_layer is not None:
            latents = result["hidden_states"][self.coded_layer]
        quantizer = self.quantizer
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.to(quantizer.weight_proj.weight.dtype)
            logits = quantizer.weight_proj(latents if self.norm is None else self.norm(latents))
        return best_entries(logits, quantizer.num_groups)


def _extractor(ckpt: str) -> Wav2Vec2FeatureExtractor:
    """The checkpoint's preprocessor; facebook/wav2vec2-base's, which are the defaults, where it has none."""
    try:
        found = Wav2Vec2FeatureExtractor.from_pretrained(ckpt)
    except Exception as error:  # transformers raises all kinds for files that hold anything else
        if not Path(ckpt, _PREPROCESSOR).exists():
            return Wav2Vec2FeatureExtractor()
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{ckpt}: its {_PREPROCESSOR} cannot be read ({reason}).") from error
    expected = {
        "sampling_rate": audio.SAMPLE_RATE,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0,
    }
    for key, value in expected.items():
        if getattr(found, key, value) != value:
            raise InputError(
                f"{ckpt}: its {_PREPROCESSOR} has {key} {getattr(found, key)!r}, expected {value!r}."
            )
    for key in ("do_normalize", "return_attention_mask"):
        if not isinstance(getattr(found, key), bool):
            raise InputError(
                f"{ckpt}: its {_PREPROCESSOR} has {key} {getattr(found, key)!r}, expected true or false."
            )
    return found


@contextmanager
def _no_bars_in_logs() -> Iterator[None]:
    """transformers draws its progress bar even if the output is not a terminal."""
    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _coded_layer(model: Any, ckpt: str) -> tuple[int | None, nn.Module | None]:
    """Which hidden state a UniSpeech-SAT quantizes, and what normalises it before; None for other models."""
    if not isinstance(model, UniSpeechSatForPreTraining):
        return None, None
    layer, layers = getattr(model.config, "utterance_contrastive_layer", 6), model.config.num_hidden_layers
    if type(layer) is not int or not 0 < layer <= layers:
        raise InputError(
            f"{ckpt}: its quantizer belongs to layer {layer} of {layers}: write utterance_contrastive_layer, as the "
            "model was trained with, into its config.json."
        )
    return layer, model.layer_norm_for_extract if model.config.do_stable_layer_norm else None


def _load(ckpt: str) -> tuple[Any, str]:
    """The whole model in float32, and the attribute that is the model without its heads."""
    try:
        kind = AutoConfig.from_pretrained(ckpt, trust_remote_code=False).model_type
        if kind not in MODELS:
            raise InputError(
                f"{ckpt}: is a {kind}, but only {', '.join(MODELS)} have a quantizer: fit codebooks with "
                "vqpool kmeans and use -u kmeans_vq, or use S3PRL's own upstream."
            )
        family, attribute = MODELS[kind]
        with _no_bars_in_logs(), sizes.not_larger(*sizes.of_hugging_face(ckpt)):
            model, report = family.from_pretrained(
                ckpt, weights_only=True, output_loading_info=True, **{_DTYPE: torch.float32}
            )
        _check_complete(ckpt, attribute, [str(name) for name in report["missing_keys"]])
        require_finite(model.state_dict(), ckpt)
        _try(getattr(model, attribute))
    except InputError:
        raise
    except Exception as error:  # transformers raises all kinds for configs that cannot be
        reason = _disguised(ckpt) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"{ckpt}: cannot be loaded as a Hugging Face checkpoint ({reason}).") from error
    return model, attribute


def _try(model: nn.Module) -> None:
    """Run on a few frames: loading alone cannot tell that what a config says of attention is wrong."""
    window, hop = pieces.geometry(model.feature_extractor)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        found = model(torch.zeros(1, window + 2 * hop), output_hidden_states=True)
    if not found.hidden_states:
        raise ValueError("it has no layers")


def _check_complete(ckpt: str, attribute: str, missing: list[str]) -> None:
    if any(name.startswith(("quantizer.", "layer_norm_for_extract.")) for name in missing):
        raise InputError(
            f"{ckpt}: this checkpoint has no quantizer (fine-tuned ones drop it), so there are no codes: use the "
            "pre-trained one, such as facebook/wav2vec2-base, or S3PRL's hf_wav2vec2_custom without codes."
        )
    needed = [
        name for name in missing if name.startswith(f"{attribute}.") and "masked_spec_embed" not in name
    ]
    if needed:
        raise InputError(f"{ckpt}: lacks weights ({', '.join(sorted(needed)[:3])}, ...), download it again.")


def _disguised(ckpt: str) -> str | None:
    """What a folder holds in place of weights or a config, where that is known."""
    files = sorted(path for path in Path(ckpt).glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    return next((f"{path.name}: {found}" for path in files if (found := disguised(path))), None)
