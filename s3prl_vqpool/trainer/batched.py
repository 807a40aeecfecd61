"""Many SUPERB heads as batched models over pooled vectors, each head with S3PRL's own optimizer."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..runner.expert import UtteranceExpert
from .stacked import PROJECTOR, Forward, backward, forward

#: Optimizers of torch that have one kernel for a whole step on the CPU, with the same numbers.
_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
#: Optimizers that need the loss as a function, or sparse gradients. S3PRL's runner gives neither.
_REFUSED = ("LBFGS", "SparseAdam")
#: Heads in a batch: few enough that what a step touches stays in the CPU's cache from forward to update. With a
#: base-size upstream, parameters and Adam's moments are 2.4 MB a head.
TOGETHER = 8


class Run:
    """One head and its experiment: S3PRL's Featurizer weights, expert, optimizer, scheduler, and folder.

    Args:
        expert: any expert of the task, with its initial parameters; it is copied, except its corpus.
        layers: hidden states of the upstream; with a single one S3PRL's Featurizer has no weights.
        args: what S3PRL's runner saves as `Args` in a checkpoint.
        config: what it saves as `Config`.

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
        self.expert.predicted_splits, self.expert.draws = (), False  # the trainer knows when
        self.featurizer = nn.Module()
        if layers > 1:
            self.featurizer.weights = nn.Parameter(torch.zeros(layers))
        self.parameters = {**dict(self.featurizer.named_parameters()), **dict(self.expert.named_parameters())}

    def prepare(self) -> None:
        """Make the optimizer and scheduler for the present parameters."""
        from s3prl.optimizers import get_optimizer
        from s3prl.schedulers import get_scheduler

        section, steps = self.config["optimizer"], self.config["runner"]["total_steps"]
        if section.get("torch_optim_name") in _REFUSED:
            raise InputError(
                f"config.optimizer.torch_optim_name {section['torch_optim_name']}: takes no steps on plain gradients: "
                "choose another, such as Adam."
            )
        self.fused = section.get("torch_optim_name") in _FUSED and not {"fused", "foreach"} & section.keys()
        wanted = {**section, "fused": True} if self.fused else section
        try:
            self.optimizer = get_optimizer([self.featurizer, self.expert], steps, wanted)
        except (NameError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"config.optimizer {section} cannot be used: {error}.") from error
        self.scheduler = None
        if self.config.get("scheduler"):
            try:
                self.scheduler = get_scheduler(self.optimizer, steps, self.config["scheduler"])
            except (NameError, AttributeError, KeyError, TypeError) as error:
                raise InputError(
                    f"config.scheduler {self.config['scheduler']} cannot be used: {error}."
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
        """Continue from a checkpoint of `state`; InputError if it belongs to another head."""
        try:
            self.featurizer.load_state_dict(state["Featurizer"])
            self.expert.load_state_dict(state["Downstream"])
            self.optimizer.load_state_dict(state["Optimizer"])
            if self.scheduler:
                self.scheduler.load_state_dict(state["Scheduler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.folder}: its checkpoint belongs to another head: choose another folder."
            ) from error
        for group in self.optimizer.param_groups if self.fused else ():
            group["fused"] = True


class Heads:
    """Heads of one pooling, trained at once; parameters are stacked [H, ...], and a run's own are views of them.

    Args:
        runs: one per head.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        first, *_ = runs
        self.runs, self.pooling = runs, first.pooling
        #: The gradient of one projector; all heads use it one after the other.
        self._memory = torch.empty_like(first.parameters[PROJECTOR])
        self._parameters = {
            name: torch.stack([run.parameters[name].detach() for run in runs]) for name in first.parameters
        }
        self._gradients = {
            name: torch.zeros_like(each) for name, each in self._parameters.items() if name != PROJECTOR
        }
        self._factors: list[tuple[Tensor, Tensor]] = []  # of the projectors' gradients, one pair per batch
        for head, run in enumerate(runs):
            for name, parameter in run.parameters.items():
                parameter.data = self._parameters[name][head]
                parameter.grad = self._memory if name == PROJECTOR else self._gradients[name][head]
            run.prepare()

    def forward(self, vectors: Tensor) -> Forward:
        """Logits [H, B, C] of pooled vectors float32 [B, layers, D], and what `backward` needs."""
        return forward(self._parameters, vectors)

    def backward(self, done: Forward, gradient: Tensor) -> None:
        """Add the gradients of the parameters; ``gradient`` [H, B, C] is that of the loss by the logits."""
        self._factors.append(backward(self._parameters, done, gradient, self._gradients))

    def step(self, clip: float) -> list[Run]:
        """Clip each head's gradient to the norm ``clip``, and update it; the heads whose gradient is NaN, which
        are left as they were."""
        left, right = (torch.cat(each, dim=1) for each in zip(*self._factors))
        norms = self._norms(left, right)
        factors = (clip / (norms + 1e-6)).clamp(max=1)
        for each in (left, *self._gradients.values()):
            each.mul_(factors.view(-1, *[1] * (each.dim() - 1)))
        failed = []
        for head, (run, norm) in enumerate(zip(self.runs, norms.tolist())):
            if math.isnan(norm):
                failed.append(run)
            else:
                torch.mm(left[head].T, right[head], out=self._memory)
                run.optimizer.step()
            if run.scheduler:
                run.scheduler.step()
        self._factors.clear()
        for each in self._gradients.values():
            each.zero_()
        return failed

    def _norms(self, left: Tensor, right: Tensor) -> Tensor:
        """Norm [H] of each head's gradient; that of its projector is ``left.mT @ right``.

        Between the two factors a large gradient gives inf - inf, where its own norm is inf: S3PRL's runner leaves out
        NaN only.
        """
        squares = [each.flatten(1).square().sum(dim=1) for each in self._gradients.values()]
        squares.append(((left @ left.mT) * (right @ right.mT)).sum(dim=(1, 2)).clamp(min=0))
        norms = torch.stack(squares).sum(dim=0).sqrt()
        for head in norms.isnan().nonzero().flatten().tolist():
            torch.mm(left[head].T, right[head], out=self._memory)
            gradients = [parameter.grad for parameter in self.runs[head].parameters.values()]
            norms[head] = torch.stack([each.norm() for each in gradients]).norm()
        return norms


def batched(runs: Sequence[Run]) -> list[Heads]:
    """At most `TOGETHER` heads of a pooling at a time, of runs where those of a pooling are beside each other."""
    made = []
    for _, group in groupby(runs, key=lambda run: run.pooling):
        same = list(group)
        made += [Heads(same[k : k + TOGETHER]) for k in range(0, len(same), TOGETHER)]
    return made


def _copied(module: nn.Module) -> dict[str, Tensor]:
    """The state dict, each tensor with a storage of its own: `torch.save` writes whole storages."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
