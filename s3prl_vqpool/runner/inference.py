"""Labels of audio by a trained head: S3PRL's runner built from a checkpoint alone, once for all files."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoints
from ..corpora.table.clips import Clip
from ..errors import InputError
from . import command_line, plugin
from .expert import UtteranceExpert
from .runner import Runner


class Classifier:
    """The upstream, the featurizer and the head of a checkpoint, as `run_downstream.py -m inference` has them.

    Args:
        checkpoint: of a head that `run_downstream.py -m train` or `vqpool train` trained with one of this project's
            downstreams.
        device: where to compute.

    Raises:
        InputError: no such checkpoint, one that does not say its classes, or one that run_downstream.py refuses.
    """

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        plugin.register()
        if not checkpoint.is_file():
            raise InputError(f"-e {checkpoint}: no such file: name a checkpoint, such as dev-best.ckpt.")
        words = ["-m", "inference", "-e", str(checkpoint), "-t", str(checkpoint), "--device", str(device)]
        command_line.prepare(words)
        state = checkpoints.load(checkpoint, required=("Args", "Config", "Featurizer", "Downstream"))
        given = command_line.s3prl_parser().parse_args(words)
        kept = {**vars(state["Args"]), "init_ckpt": str(checkpoint)}
        for name in ("mode", "evaluate_split", "override", "local_rank", "past_exp", "device"):
            kept[name] = getattr(given, name)
        self._runner = Runner(argparse.Namespace(**{**vars(given), **kept}), state["Config"])
        expert = self._runner.downstream.model
        if not (isinstance(expert, UtteranceExpert) and expert.classes):
            raise InputError(
                f"-e {checkpoint}: trained with -d {kept['downstream']}, which does not say its classes: take one of "
                "vqpool list downstreams."
            )
        self.expert = expert

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Class names of each slot of a label."""
        return self.expert.classes

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots of a label; ``label`` where it has one, numbers where the checkpoint does not say."""
        if len(self.classes) == 1:
            return ("label",)
        return self.expert.slots or tuple(f"label{number + 1}" for number in range(len(self.classes)))

    @torch.no_grad()
    def __call__(self, clip: Clip) -> tuple[Tensor, ...]:
        """For each slot the probabilities [its classes] of a piece of audio, computed alone, as -m inference does.

        Raises:
            InputError: audio that cannot be read or is too short; names the file.
        """
        try:
            return tuple(slot[0].cpu() for slot in self.expert.probabilities(self._runner.features(clip)))
        except InputError as error:
            if str(error).startswith(str(clip.path)):
                raise
            raise InputError(f"{clip.path}: {error}") from error
