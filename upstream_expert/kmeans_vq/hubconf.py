"""Names of upstreams whose codes come from k-means codebooks."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import Any as _Any

from s3prl.upstream import baseline as _baseline

from .expert import UpstreamExpert as _UpstreamExpert


def mfcc_vq(refresh: bool = False, model_config: str | None = None, **_: _Any) -> _UpstreamExpert:
    """S3PRL's `mfcc` (39 columns, 10 ms) with two codebooks of 64: the statics; the deltas and delta-deltas.

    Needs no network and no checkpoint; the codebooks (recipes/mfcc_vq) are part of the package.

    Args:
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    features = _Path(_baseline.__file__).parent / "mfcc.yaml"
    codebooks = _Path(__file__).with_name("mfcc.safetensors")
    return _UpstreamExpert(str(features), str(codebooks), statistics=model_config)
