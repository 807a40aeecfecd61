"""Names of vq-wav2vec with codes."""

from __future__ import annotations

from s3prl_vqpool.checkpoints.download import local as _local
from s3prl_vqpool.codes import hub_entry as _hub_entry

from .expert import UpstreamExpert as _UpstreamExpert

# s3prl/upstream/vq_wav2vec/hubconf.py: the same files
_CONVERTED = "https://huggingface.co/s3prl/converted_ckpts/resolve/main"


@_hub_entry
def vq_wav2vec_vq_custom(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """vq-wav2vec from a checkpoint file: fairseq's, S3PRL's, or one that `vqpool convert` wrote.

    Args:
        ckpt: path or URL (`-k`).
        refresh: download a URL again (`-r`).
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    path = _local(ckpt, refresh, "a vq-wav2vec", "vq_wav2vec_vq_custom")
    return _UpstreamExpert(str(path), model_config)


@_hub_entry
def vq_wav2vec_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """vq-wav2vec (arXiv 1910.05453), Gumbel softmax, LibriSpeech 960 h; a frame every 10 ms."""
    return vq_wav2vec_vq_custom(f"{_CONVERTED}/vq-wav2vec.pt", refresh, model_config)


@_hub_entry
def vq_wav2vec_kmeans_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """vq-wav2vec (arXiv 1910.05453), k-means, LibriSpeech 960 h; a frame every 10 ms."""
    return vq_wav2vec_vq_custom(f"{_CONVERTED}/vq-wav2vec_kmeans.pt", refresh, model_config)
