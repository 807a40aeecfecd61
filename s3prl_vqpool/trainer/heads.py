"""Many SUPERB heads as one batched model over pooled vectors, each with S3PRL's own optimizer.

Between the hidden states and the logits of a SUPERB head everything is linear, so the weighted sum over layers
and the projector may come after the pooling.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..expert import UtteranceExpert

#: Optimizers of torch that have one kernel for a whole step on the CPU; the numbers are those of the others.
_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")


class Run:
    """One head and its experiment: S3PRL's Featurizer weights, expert, optimizer, scheduler, and folder.

    Args:
        expert: any expert of the task, with its initial parameters; it is copied, but for the corpus.
        layers: hidden states of the upstream; with a single one S3PRL's Featurizer has no weights.
        args, config: what the checkpoints say, as S3PRL's runner would have had them.

    Raises:
        InputError: an optimizer or scheduler that S3PRL cannot make.
    """

    def __init__(
        self,
        expert: UtteranceExpert,
        layers: int,
        args: argparse.Namespace,
        config: dict[str, Any],
        pooling: str,
    ) -> None:
        self.args, self.config, self.pooling = args, config, pooling
        self.folder = Path(args.expdir)
        self.expert = deepcopy(expert, {id(expert.corpus): expert.corpus}).train()
        self.expert.expdir = self.folder
        self.featurizer = nn.Module()
        if layers > 1:
            self.featurizer.weights = nn.Parameter(torch.zeros(layers))
        self.parameters = {**dict(self.featurizer.named_parameters()), **dict(self.expert.named_parameters())}

    def prepare(self) -> None:
        """Make the optimizer and scheduler, on the parameters as they are now."""
        from s3prl.optimizers import get_optimizer
        from s3prl.schedulers import get_scheduler

        section, steps = self.config["optimizer"], self.config["runner"]["total_steps"]
        self.fused = section.get("torch_optim_name") in _FUSED and not {"fused", "foreach"} & section.keys()
        wanted = {**section, "fused": True} if self.fused else section
        try:
            self.optimizer = get_optimizer([self.featurizer, self.expert], steps, wanted)
        except (NameError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"config.optimizer {section} is of no use: {error}.") from error
        self.scheduler = None
        if self.config.get("scheduler"):
            try:
                self.scheduler = get_scheduler(self.optimizer, steps, self.config["scheduler"])
            except (NameError, AttributeError, KeyError, TypeError) as error:
                raise InputError(
                    f"config.scheduler {self.config['scheduler']} is of no use: {error}."
                ) from error

    def state(self, step: int, epoch: int) -> dict[str, Any]:
        """A checkpoint as S3PRL's runner writes it."""
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"] if self.fused else ():
            group["fused"] = None
        state = {
            "Optimizer": optimizer,
            "Step": step,
            "Epoch": epoch,
            "Args": self.args,
            "Config": self.config,
            "Featurizer": _copied(self.featurizer),
            "Downstream": _copied(self.expert),
        }
        return {**state, "Scheduler": self.scheduler.state_dict()} if self.scheduler else state

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint of `state`; InputError where it is of another head."""
        try:
            self.featurizer.load_state_dict(state["Featurizer"])
            self.expert.load_state_dict(state["Downstream"])
            self.optimizer.load_state_dict(state["Optimizer"])
            if self.scheduler:
                self.scheduler.load_state_dict(state["Scheduler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.folder}: its checkpoint is of another head: choose another -p."
            ) from error
        for group in self.optimizer.param_groups if self.fused else ():
            group["fused"] = True


class Heads:
    """H heads; parameters are stacked [H, ...], and each head's own tensors are views of them.

    Args:
        runs: those of one pooling beside each other.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.poolings = list(dict.fromkeys(run.pooling for run in runs))
        self._sizes = [sum(run.pooling == name for run in runs) for name in self.poolings]
        self._stacked: dict[str, nn.Parameter] = {}
        for name in runs[0].parameters:
            values = torch.stack([run.parameters[name].detach() for run in runs])
            self._stacked[name] = nn.Parameter(values)
            for run, value in zip(runs, values):
                run.parameters[name].data = value
        for run in runs:
            run.prepare()

    def logits(self, vectors: Sequence[Tensor]) -> Tensor:
        """[H, B, C] of pooled vectors float32 [B, layers, D], one tensor for each of ``poolings``."""
        stacked = self._stacked
        if "weights" in stacked:
            weights = stacked["weights"].softmax(dim=1).split(self._sizes)
            mixed = [(w @ each).transpose(0, 1) for w, each in zip(weights, vectors)]  # [heads, B, D]
        else:
            mixed = [each[:, 0].expand(size, -1, -1) for size, each in zip(self._sizes, vectors)]
        values, out = torch.cat(mixed), "model.post_net.linear"
        weights, bias = stacked["projector.weight"], stacked["projector.bias"]
        last, last_bias = stacked[f"{out}.weight"], stacked[f"{out}.bias"]
        if last.size(1) > values.size(1):
            return _linear(_linear(values, weights, bias), last, last_bias)
        both = last @ weights  # [H, C, D]: with fewer classes than utterances, the products are smaller so
        return _linear(values, both, (last @ bias[..., None])[..., 0] + last_bias)

    def step(self, clip: float) -> list[Run]:
        """Clip each head's gradient to the norm ``clip``, and update it; the heads whose gradient is NaN, which
        are left as they were."""
        gradients = {name: p.grad for name, p in self._stacked.items() if p.grad is not None}
        norms = torch.stack([each.flatten(1).norm(dim=1) for each in gradients.values()]).norm(dim=0)  # [H]
        factors = (clip / (norms + 1e-6)).clamp(max=1)
        if (factors != 1).any():
            for each in gradients.values():
                each.mul_(factors.view(-1, *[1] * (each.dim() - 1)))
        failed = []
        parts = zip(*(each.unbind() for each in gradients.values()))
        for run, norm, own in zip(self.runs, norms.tolist(), parts):
            if math.isnan(norm):
                failed.append(run)
            else:
                for name, gradient in zip(gradients, own):
                    run.parameters[name].grad = gradient
                run.optimizer.step()
            if run.scheduler:
                run.scheduler.step()
        for parameter in self._stacked.values():
            parameter.grad = None
        return failed


def _linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[H, B, out] of [H, B, in], [H, out, in] and [H, out]."""
    return torch.baddbmm(bias[:, None], values, weight.transpose(1, 2))


def _copied(module: nn.Module) -> dict[str, Tensor]:
    """The state dict, each tensor with a storage of its own: `torch.save` writes whole storages."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
