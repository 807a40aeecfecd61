"""Tiny randomly initialised wav2vec 2.0 checkpoints in S3PRL's converted format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig, Wav2Vec2Config, Wav2Vec2Model

STANDARD_STRIDES = "[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2"

#: As base: GroupNorm over time; as large and XLS-R: LayerNorm, normalised waveforms.
BASE = {"extractor_mode": "default", "layer_norm_first": False}
LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}


def converted_checkpoint(
    path: Path, kind: dict[str, Any] = LARGE, quantizer: bool = True, seed: int = 0, **changes: Any
) -> Path:
    """Write a checkpoint with keys task_cfg, model_cfg and model_weight; the global random state is restored.

    ``changes`` are fields of S3PRL's Wav2Vec2Config that shall differ.
    """
    fields: dict[str, Any] = {
        "conv_feature_layers": STANDARD_STRIDES,
        "encoder_layers": 3,
        "encoder_embed_dim": 48,
        "encoder_ffn_embed_dim": 96,
        "encoder_attention_heads": 4,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "latent_vars": 20,
        "latent_groups": 2,
        "latent_dim": 16,
        "final_dim": 16,
        "quantize_targets": quantizer,
    }
    config = Wav2Vec2Config(**{**fields, **kind, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Wav2Vec2Model(config)
    torch.save(
        {
            "task_cfg": asdict(AudioPretrainingConfig(normalize=kind is LARGE)),
            "model_cfg": asdict(config),
            "model_weight": model.state_dict(),
        },
        path,
    )
    return path


def waves(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """One float32 [samples] utterance of noise per length, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, generator=generator) * 0.1 for length in lengths]
