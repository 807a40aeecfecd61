"""Names of upstreams whose codes come from k-means codebooks."""

from __future__ import annotations

from dataclasses import replace as _replace
from pathlib import Path as _Path

from s3prl_vqpool.codes import codebook as _codebook_files
from s3prl_vqpool.codes import hub_entry as _hub_entry
from s3prl_vqpool.errors import InputError as _InputError

from .expert import UpstreamExpert as _UpstreamExpert


def _shipped(name: str, statistics: str | None) -> _UpstreamExpert:
    codebooks = str(_Path(__file__).with_name(f"{name}.safetensors"))
    # S3PRL's kaldi features: 25 ms every 10 ms, as many as fit
    return _UpstreamExpert(_codebook_files.Codebook(name, codebooks, 400, 160, statistics=statistics))


@_hub_entry
def mfcc_vq(model_config: str | None = None) -> _UpstreamExpert:
    """S3PRL's `mfcc` (39 columns, 10 ms) with two codebooks of 64: the statics; the deltas and delta-deltas.

    Needs no network and no checkpoint; the codebooks (recipes/mfcc_vq) are part of the package.

    Args:
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    return _shipped("mfcc", model_config)


@_hub_entry
def fbank_vq(model_config: str | None = None) -> _UpstreamExpert:
    """S3PRL's `fbank` (240 columns, 10 ms) with three codebooks of 32: the statics; the deltas; the delta-deltas.

    Needs no network and no checkpoint. The codebooks were made without labels, from LibriSpeech clips (CC BY 4.0) and
    Picovoice wake words (Apache-2.0), with ``vqpool kmeans -u fbank -l 0 --entries 32 --groups 3``.

    Args:
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    return _shipped("fbank", model_config)


@_hub_entry
def kmeans_vq(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """Any upstream of S3PRL with the codebooks of a codebook.yaml, as `vqpool kmeans` writes it.

    Args:
        ckpt: the upstream's checkpoint (`-k`), in place of the codebook.yaml's.
        refresh: download the upstream's checkpoint again (`-r`).
        model_config: codebook.yaml (`-g`); training counts are its key `statistics`.
    """
    return _from_file("kmeans_vq", "", ckpt, refresh, model_config)


@_hub_entry
def hubert_vq(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """`kmeans_vq` for codebooks on one of S3PRL's hubert upstreams."""
    return _from_file("hubert_vq", "hubert", ckpt, refresh, model_config)


@_hub_entry
def wavlm_vq(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """`kmeans_vq` for codebooks on one of S3PRL's wavlm upstreams."""
    return _from_file("wavlm_vq", "wavlm", ckpt, refresh, model_config)


@_hub_entry
def data2vec_vq(
    ckpt: str | None = None, refresh: bool = False, model_config: str | None = None
) -> _UpstreamExpert:
    """`kmeans_vq` for codebooks on one of S3PRL's data2vec upstreams."""
    return _from_file("data2vec_vq", "data2vec", ckpt, refresh, model_config)


def _from_file(
    name: str, family: str, ckpt: str | None, refresh: bool, model_config: str | None
) -> _UpstreamExpert:
    codebook = _codebook_files.load(model_config, name)
    if not codebook.upstream.startswith(family):
        raise _InputError(
            f"{model_config}: holds codebooks on {codebook.upstream}, which is no {family}: use -u kmeans_vq."
        )
    return _UpstreamExpert(codebook if ckpt is None else _replace(codebook, checkpoint=str(ckpt)), refresh)
