"""S3PRL's runner with two steps added: the config is checked, and training statistics come before step 1."""

from __future__ import annotations

import argparse
from typing import Any

from s3prl.downstream import runner as s3prl_runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import InputError, unknown_name
from .expert import Section, UtteranceExpert

STEPS = ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep")


class Runner(s3prl_runner.Runner):
    """`s3prl.downstream.runner.Runner`; its training, evaluation and inference are S3PRL's.

    Raises:
        InputError: a value in the config's runner or optimizer section that S3PRL cannot use, or a layer (`-l`)
            that the upstream has not.
    """

    def __init__(self, args: argparse.Namespace, config: dict[str, Any]) -> None:
        if args.mode == "train":
            section = Section("config.runner", config["runner"])
            for key in STEPS:
                section.whole(key)
        super().__init__(args, config)

    def train(self) -> None:
        """Give the pooling its training statistics where it needs them, then S3PRL's training."""
        expert = _bare(self.downstream.model)
        if isinstance(expert, UtteranceExpert):
            splits = expert.corpus.splits if expert.corpus else {}
            for split in self.config["runner"].get("eval_dataloaders", ()):
                if split not in splits:
                    raise unknown_name("split in config.runner.eval_dataloaders:", split, splits)
            expert.prepare(_bare(self.upstream.model), _bare(self.featurizer.model))
        super().train()

    def _get_featurizer(self) -> Any:
        try:
            return super()._get_featurizer()
        except IndexError as error:
            layer = self.args.upstream_layer_selection
            raise InputError(f"-l {layer}: the upstream {self.args.upstream} has no such layer.") from error

    def _get_optimizer(self, model_params: list[nn.Module]) -> Any:
        try:
            return super()._get_optimizer(model_params)
        except (NameError, AttributeError, KeyError, TypeError) as error:
            raise InputError(f"config.optimizer {self.config['optimizer']} is of no use: {error}.") from error


def _bare(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model
