"""NPC with its codes: S3PRL's own upstream expert, plus the indices of its VQ layers."""

from __future__ import annotations

from s3prl.upstream.npc.expert import UpstreamExpert as _Npc

from s3prl_vqpool.codes.vq_layers import WithVqLayers


class UpstreamExpert(WithVqLayers, _Npc):
    """S3PRL's NPC expert (arXiv 2011.00406) whose result also holds ``codes`` and ``code_lengths``.

    Its convolutions look beyond an utterance's end, so the last frames and their codes depend on the padding of the
    batch, as in S3PRL.

    Args:
        ckpt: path of a checkpoint that S3PRL's `npc` loads.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: the checkpoint is damaged, another model's, or holds no VQ layers.
    """

    def __init__(self, ckpt: str, model_config: str | None = None) -> None:
        self.build(ckpt, _Npc.__init__, "NPC")
        self.use_statistics(model_config)
