"""Names of wav2vec 2.0 with codes: for each of S3PRL's upstream names its twin ending in `_vq`."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import Any as _Any

from s3prl_vqpool.checkpoints.download import local as _local
from s3prl_vqpool.codes import hub_entry as _hub_entry

from .expert import UpstreamExpert as _UpstreamExpert

_entry = _hub_entry(options=("model_config", "feature_selection"))

# s3prl/upstream/wav2vec2/hubconf.py: the same files
_CONVERTED = "https://huggingface.co/s3prl/converted_ckpts/resolve/main"


@_entry
def wav2vec2_vq_custom(ckpt: str | None = None, refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """wav2vec 2.0 from a checkpoint file: fairseq's, S3PRL's, or one that `vqpool convert` wrote.

    Args:
        ckpt: path or URL (`-k`).
        refresh: download a URL again (`-r`).
        options: ``model_config``, a file of training counts (`-g`) for selections such as `-s vq_bp`;
            ``feature_selection`` as S3PRL's wav2vec2 has it.
    """
    path = _local(ckpt, refresh, "a wav2vec 2.0")
    return _UpstreamExpert(str(path), **options)


@_entry
def wav2vec2_vq_local(ckpt: str | None = None, **options: _Any) -> _UpstreamExpert:
    """`wav2vec2_vq_custom` with a path."""
    return wav2vec2_vq_custom(ckpt, **options)


@_entry
def wav2vec2_vq_url(ckpt: str | None = None, refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """`wav2vec2_vq_custom` with a URL."""
    return wav2vec2_vq_custom(ckpt, refresh, **options)


@_entry
def wav2vec2_vq_tiny(**options: _Any) -> _UpstreamExpert:
    """The embedded model: 5 layers of 192, 2.7 hours of speech (recipes/tiny/MODEL_CARD.md). Needs no download."""
    return _UpstreamExpert(str(_Path(__file__).with_name("tiny.safetensors")), **options)


def _published(file: str, refresh: bool, options: dict[str, _Any]) -> _UpstreamExpert:
    return wav2vec2_vq_custom(f"{_CONVERTED}/{file}", refresh, **options)


@_entry
def wav2vec2_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """The default model: base, LibriSpeech 960 h."""
    return wav2vec2_base_960_vq(refresh, **options)


@_entry
def wav2vec2_base_960_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """Base, LibriSpeech 960 h."""
    return _published("wav2vec_small.pt", refresh, options)


@_entry
def wav2vec2_large_960_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """Large, LibriSpeech 960 h."""
    return _published("libri960_big.pt", refresh, options)


@_entry
def wav2vec2_large_ll60k_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """Large, Libri-light 60k h."""
    return _published("wav2vec_vox_new.pt", refresh, options)


@_entry
def xlsr_53_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """XLSR-53: large, 56k h in 53 languages (arXiv 2006.13979)."""
    return _published("xlsr_53_56k.pt", refresh, options)


@_entry
def xls_r_300m_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """XLS-R 0.3B (arXiv 2111.09296)."""
    return _published("xlsr2_300m.pt", refresh, options)


@_entry
def xls_r_1b_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """XLS-R 1B (arXiv 2111.09296)."""
    return _published("xlsr2_960m_1000k.pt", refresh, options)


@_entry
def xls_r_2b_vq(refresh: bool = False, **options: _Any) -> _UpstreamExpert:
    """XLS-R 2B (arXiv 2111.09296)."""
    return _published("xlsr2_2B_1000k.pt", refresh, options)
