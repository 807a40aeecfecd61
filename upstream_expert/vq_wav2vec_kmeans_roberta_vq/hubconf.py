"""Names of discrete BERT on vq-wav2vec with codes."""

from __future__ import annotations

from pathlib import Path as _Path

from s3prl_vqpool.checkpoints.download import fetch as _fetch
from s3prl_vqpool.codes import hub_entry as _hub_entry
from s3prl_vqpool.errors import InputError as _InputError

from .expert import UpstreamExpert as _UpstreamExpert
from .expert import load as _load

# s3prl/upstream/roberta/hubconf.py and vq_wav2vec/hubconf.py: the same files
_CONVERTED = "https://huggingface.co/s3prl/converted_ckpts/resolve/main"
_BERT, _FRONTEND = "vq_wav2vec_kmeans_roberta.pt", "vq-wav2vec_kmeans.pt"


@_hub_entry
def vq_wav2vec_kmeans_roberta_vq_custom(
    ckpt: str | None = None, model_config: str | None = None
) -> _UpstreamExpert:
    """Discrete BERT from a folder with both checkpoints, named as S3PRL names them.

    Args:
        ckpt: folder (`-k`) with vq_wav2vec_kmeans_roberta.pt and vq-wav2vec_kmeans.pt.
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    if ckpt is None or not _Path(ckpt).is_dir():
        raise _InputError(f"-k {ckpt}: name a folder with {_BERT} and {_FRONTEND}.")
    return _UpstreamExpert(str(_Path(ckpt, _BERT)), str(_Path(ckpt, _FRONTEND)), model_config)


@_hub_entry
def vq_wav2vec_kmeans_roberta_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """Discrete BERT on vq-wav2vec's k-means codes (arXiv 1911.03912), LibriSpeech 960 h; a frame every 10 ms."""
    custom = "vq_wav2vec_kmeans_roberta_vq_custom"
    bert = _fetch(f"{_CONVERTED}/{_BERT}", refresh, custom, _load)
    return _UpstreamExpert(str(bert), str(_fetch(f"{_CONVERTED}/{_FRONTEND}", refresh, custom)), model_config)


@_hub_entry
def discretebert_vq(refresh: bool = False, model_config: str | None = None) -> _UpstreamExpert:
    """`vq_wav2vec_kmeans_roberta_vq` by S3PRL's other name."""
    return vq_wav2vec_kmeans_roberta_vq(refresh, model_config)
