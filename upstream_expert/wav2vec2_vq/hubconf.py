"""Names of wav2vec 2.0 with codes: for each of S3PRL's upstream names its twin ending in `_vq`."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import Any as _Any

from s3prl_vqpool.checkpoints.download import fetch as _fetch
from s3prl_vqpool.errors import InputError as _InputError

from .expert import UpstreamExpert as _UpstreamExpert

# s3prl/upstream/wav2vec2/hubconf.py: the same files
_CONVERTED = "https://huggingface.co/s3prl/converted_ckpts/resolve/main"


def wav2vec2_vq_custom(ckpt: str | None = None, refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """wav2vec 2.0 from a checkpoint file: fairseq's, S3PRL's, or one that `vqpool convert` wrote.

    Args:
        ckpt: path or URL (`-k`).
        refresh: download a URL again (`-r`).
    """
    if ckpt is None:
        raise _InputError("This upstream needs a checkpoint: -k PATH or -k URL of a wav2vec 2.0 file.")
    path = _fetch(str(ckpt), refresh) if str(ckpt).startswith(("http://", "https://")) else _Path(ckpt)
    return _UpstreamExpert(str(path), **kwargs)


def wav2vec2_vq_local(*args: _Any, **kwargs: _Any) -> _UpstreamExpert:
    """`wav2vec2_vq_custom` with a path."""
    return wav2vec2_vq_custom(*args, **kwargs)


def wav2vec2_vq_url(*args: _Any, **kwargs: _Any) -> _UpstreamExpert:
    """`wav2vec2_vq_custom` with a URL."""
    return wav2vec2_vq_custom(*args, **kwargs)


def wav2vec2_vq_tiny(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """The embedded model: 5 layers of 192, 2.7 hours of speech (recipes/tiny/MODEL_CARD.md). Needs no download."""
    return _UpstreamExpert(**{**kwargs, "ckpt": str(_Path(__file__).with_name("tiny.safetensors"))})


def _published(file: str, refresh: bool, kwargs: dict[str, _Any]) -> _UpstreamExpert:
    return wav2vec2_vq_custom(**{**kwargs, "ckpt": f"{_CONVERTED}/{file}", "refresh": refresh})


def wav2vec2_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """The default model: base, LibriSpeech 960 h."""
    return wav2vec2_base_960_vq(refresh=refresh, **kwargs)


def wav2vec2_base_960_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """Base, LibriSpeech 960 h."""
    return _published("wav2vec_small.pt", refresh, kwargs)


def wav2vec2_large_960_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """Large, LibriSpeech 960 h."""
    return _published("libri960_big.pt", refresh, kwargs)


def wav2vec2_large_ll60k_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """Large, Libri-light 60k h."""
    return _published("wav2vec_vox_new.pt", refresh, kwargs)


def xlsr_53_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """XLSR-53: large, 56k h in 53 languages (arXiv 2006.13979)."""
    return _published("xlsr_53_56k.pt", refresh, kwargs)


def xls_r_300m_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """XLS-R 0.3B (arXiv 2111.09296)."""
    return _published("xlsr2_300m.pt", refresh, kwargs)


def xls_r_1b_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """XLS-R 1B (arXiv 2111.09296)."""
    return _published("xlsr2_960m_1000k.pt", refresh, kwargs)


def xls_r_2b_vq(refresh: bool = False, **kwargs: _Any) -> _UpstreamExpert:
    """XLS-R 2B (arXiv 2111.09296)."""
    return _published("xlsr2_2B_1000k.pt", refresh, kwargs)
