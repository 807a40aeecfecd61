"""Names of VQ-APC with codes."""

from __future__ import annotations

from s3prl_vqpool.checkpoints.download import local as _local
from s3prl_vqpool.codes import hub_entry as _hub_entry
from s3prl_vqpool.codes.vq_layers import load as _load

from .expert import UpstreamExpert as _UpstreamExpert

# s3prl/upstream/vq_apc/hubconf.py: the same files
_PUBLISHED = "https://huggingface.co/leo19941227/apc_series/resolve/main"


@_hub_entry
def vq_apc_vq_custom(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """VQ-APC from a checkpoint file that S3PRL's `vq_apc` loads.

    Args:
        ckpt: path or URL (`-k`).
        refresh: download a URL again (`-r`).
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    path = _local(ckpt, refresh, "a VQ-APC", "vq_apc_vq_custom", _load)
    return _UpstreamExpert(str(path), model_config)


@_hub_entry
def vq_apc_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """The default model: VQ-APC (arXiv 2005.08392), LibriSpeech 360 h; a frame every 10 ms."""
    return vq_apc_360hr_vq(refresh, model_config)


@_hub_entry
def vq_apc_360hr_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """VQ-APC, LibriSpeech 360 h."""
    return vq_apc_vq_custom(f"{_PUBLISHED}/vq_apc_360hr.ckpt", refresh, model_config)


@_hub_entry
def vq_apc_960hr_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """VQ-APC, LibriSpeech 960 h."""
    return vq_apc_vq_custom(f"{_PUBLISHED}/vq_apc_960hr.ckpt", refresh, model_config)
