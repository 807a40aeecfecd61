"""VQ-APC with its codes: S3PRL's own upstream expert, plus the indices of its VQ layers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from s3prl.upstream.vq_apc.expert import UpstreamExpert as _VqApc

from s3prl_vqpool.codes.vq_layers import WithVqLayers


class UpstreamExpert(WithVqLayers, _VqApc):
    """S3PRL's VQ-APC expert (arXiv 2005.08392) whose result also holds ``codes`` and ``code_lengths``.

    Its GRUs run forward in time over frames of the utterance alone, so neither features nor codes depend on the
    padding of the batch.

    Args:
        ckpt: path of a checkpoint that S3PRL's `vq_apc` loads.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: the checkpoint is damaged, another model's, or holds no VQ layers.
    """

    def __init__(self, ckpt: str, model_config: str | None = None) -> None:
        self.build(ckpt, _VqApc.__init__, "APC")
        self.use_statistics(model_config)

    def without_padding(self) -> AbstractContextManager[None]:
        return nullcontext()
