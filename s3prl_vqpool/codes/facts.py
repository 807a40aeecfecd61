"""Published facts about the upstreams with codes. Uncertain ones are left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """One upstream; "-" if a fact depends on the checkpoint or is uncertain.

    Attributes:
        parameters: as the paper gives them.
        frame: time from one frame to the next.
        codebooks: number times entries.
        licence: of the weights.
        origin: where the weights come from.
    """

    parameters: str = "-"
    frame: str = "-"
    codebooks: str = "-"
    licence: str = "-"
    origin: str = "-"


#: "fairseq(-py) is MIT-licensed. The license applies to the pre-trained models as well." (its README)
_FAIRSEQ = "MIT"
_CONVERTED = "huggingface.co/s3prl/converted_ckpts"
_SHIPPED = "Apache-2.0"


def _wav2vec2(parameters: str, file: str) -> Facts:
    return Facts(parameters, "20 ms", "2 x 320", _FAIRSEQ, f"{_CONVERTED}: {file}")


_BASE = _wav2vec2("95 M", "wav2vec_small.pt")
_WAV2VEC2_FILE = Facts(frame="20 ms", origin="-k: fairseq's, S3PRL's or vqpool convert's file")
_FITTED = Facts(origin="-g: codebook.yaml of vqpool kmeans")

_APC_SERIES = "huggingface.co/leo19941227/apc_series"
#: Parameters: SUPERB (arXiv 2105.01051), table 1.
_VQ_APC = Facts("4.63 M", "10 ms", origin=f"{_APC_SERIES}: vq_apc_360hr.ckpt")
_NPC = Facts("19.38 M", "10 ms", origin=f"{_APC_SERIES}: npc_360hr.ckpt")
_DISCRETE_BERT = Facts(
    "-",
    "10 ms",
    "2 x (320 + 2)",
    _FAIRSEQ,
    f"{_CONVERTED}: vq_wav2vec_kmeans_roberta.pt, vq-wav2vec_kmeans.pt",
)

#: Parameters and codebooks: arXiv 2006.11477 (wav2vec 2.0), 2006.13979 (XLSR-53), 2111.09296 (XLS-R), 1910.05453.
FACTS: dict[str, Facts] = {
    "wav2vec2_vq": _BASE,
    "wav2vec2_base_960_vq": _BASE,
    "wav2vec2_large_960_vq": _wav2vec2("317 M", "libri960_big.pt"),
    "wav2vec2_large_ll60k_vq": _wav2vec2("317 M", "wav2vec_vox_new.pt"),
    "xlsr_53_vq": _wav2vec2("0.3 B", "xlsr_53_56k.pt"),
    "xls_r_300m_vq": _wav2vec2("0.3 B", "xlsr2_300m.pt"),
    "xls_r_1b_vq": _wav2vec2("1 B", "xlsr2_960m_1000k.pt"),
    "xls_r_2b_vq": _wav2vec2("2 B", "xlsr2_2B_1000k.pt"),
    "wav2vec2_vq_custom": _WAV2VEC2_FILE,
    "wav2vec2_vq_local": _WAV2VEC2_FILE,
    "wav2vec2_vq_url": _WAV2VEC2_FILE,
    "hf_wav2vec2_vq_custom": Facts(frame="20 ms", origin="-k: name on huggingface.co, or a folder"),
    "vq_wav2vec_vq": Facts("-", "10 ms", "2 x 320", _FAIRSEQ, f"{_CONVERTED}: vq-wav2vec.pt"),
    "vq_wav2vec_kmeans_vq": Facts("-", "10 ms", "2 x 320", _FAIRSEQ, f"{_CONVERTED}: vq-wav2vec_kmeans.pt"),
    "vq_wav2vec_vq_custom": Facts(frame="10 ms", origin="-k: fairseq's, S3PRL's or vqpool convert's file"),
    "vq_apc_vq": _VQ_APC,
    "vq_apc_360hr_vq": _VQ_APC,
    "vq_apc_960hr_vq": Facts("4.63 M", "10 ms", origin=f"{_APC_SERIES}: vq_apc_960hr.ckpt"),
    "vq_apc_vq_custom": Facts(frame="10 ms", origin="-k: file of S3PRL's vq_apc"),
    "npc_vq": _NPC,
    "npc_360hr_vq": _NPC,
    "npc_960hr_vq": Facts("19.38 M", "10 ms", origin=f"{_APC_SERIES}: npc_960hr.ckpt"),
    "npc_vq_custom": Facts(frame="10 ms", origin="-k: file of S3PRL's npc"),
    "vq_wav2vec_kmeans_roberta_vq": _DISCRETE_BERT,
    "discretebert_vq": _DISCRETE_BERT,
    "vq_wav2vec_kmeans_roberta_vq_custom": Facts(
        frame="10 ms", origin="-k: folder of S3PRL's converted BERT and vq-wav2vec"
    ),
    "wav2vec2_vq_tiny": Facts(
        "2.7 M", "20 ms", "2 x 200", _SHIPPED, "this package, trained on CC BY 4.0 and Apache-2.0 speech"
    ),
    "mfcc_vq": Facts(
        "0", "10 ms", "2 x 64", _SHIPPED, "this package, fitted on CC BY 4.0 and Apache-2.0 speech"
    ),
    "fbank_vq": Facts(
        "0", "10 ms", "3 x 32", _SHIPPED, "this package, fitted on CC BY 4.0 and Apache-2.0 speech"
    ),
    "kmeans_vq": _FITTED,
    "hubert_vq": _FITTED,
    "wavlm_vq": _FITTED,
    "data2vec_vq": _FITTED,
}
