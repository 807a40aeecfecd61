"""S3PRL's runner with one step added: training statistics before step 1."""

from __future__ import annotations

from s3prl.downstream import runner as s3prl_runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .expert import UtteranceExpert


class Runner(s3prl_runner.Runner):
    """`s3prl.downstream.runner.Runner`; its training, evaluation and inference are S3PRL's."""

    def train(self) -> None:
        """Give the pooling its training statistics where it needs them, then S3PRL's training."""
        expert = _bare(self.downstream.model)
        if isinstance(expert, UtteranceExpert):
            expert.prepare(_bare(self.upstream.model), _bare(self.featurizer.model))
        super().train()


def _bare(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model
