"""Names of wav2vec 2.0 in Hugging Face's format with codes."""

from __future__ import annotations

from typing import Any as _Any

from s3prl_vqpool.codes import hub_entry as _hub_entry
from s3prl_vqpool.errors import InputError as _InputError


@_hub_entry
def hf_wav2vec2_vq_custom(ckpt: str | None = None, model_config: str | None = None) -> _Any:
    """wav2vec 2.0, also Conformer, UniSpeech and UniSpeech-SAT, with a quantizer, in Hugging Face's format.

    Args:
        ckpt: name on the hub, such as facebook/wav2vec2-base, or a folder (`-k`).
        model_config: file of training counts (`-g`), for selections such as `-s vq_bp`.
    """
    from .expert import UpstreamExpert

    if ckpt is None:
        raise _InputError(
            "This upstream needs a checkpoint: -k facebook/wav2vec2-base, or a folder in that format."
        )
    return UpstreamExpert(str(ckpt), model_config)
