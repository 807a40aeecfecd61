"""Names of upstreams whose codes come from k-means codebooks."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import Any as _Any

from s3prl.upstream import baseline as _baseline

from .expert import UpstreamExpert as _UpstreamExpert


def mfcc_vq(refresh: bool = False, **_: _Any) -> _UpstreamExpert:
    """S3PRL's `mfcc` (39 columns, 10 ms) with two codebooks of 64: the statics; the deltas and delta-deltas.

    Needs no network and no checkpoint; the codebooks (recipes/mfcc_vq) are part of the package.
    """
    features = _Path(_baseline.__file__).parent / "mfcc.yaml"
    return _UpstreamExpert(str(features), str(_Path(__file__).with_name("mfcc.safetensors")))
