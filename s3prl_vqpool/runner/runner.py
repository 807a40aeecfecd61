"""S3PRL's runner, with checks of the config, training statistics before step 1, and an end for several processes."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from s3prl.downstream import runner as s3prl_runner
from s3prl.utility.helper import is_leader_process
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..corpora import audio
from ..corpora.table import export
from ..corpora.table.clips import Clip, clips
from ..errors import InputError, unknown_name
from . import plugin
from .board import Board
from .config import check_known, runner_section, with_numbers
from .expert import UtteranceExpert


class _Trained(Exception):
    """A process other than the first has made all steps."""


class Runner(s3prl_runner.Runner):
    """`s3prl.downstream.runner.Runner`; its training, evaluation and inference are S3PRL's.

    With several processes, S3PRL counts steps in the first one only, so the others would continue until they fail
    because the first has ended. Here they stop after the last step. Only the first process evaluates. It does so
    without DistributedDataParallel, so that it does not wait for the others.

    Raises:
        InputError: a value in the config's runner or optimizer section that S3PRL cannot use, an option that it would
            drop or only warn of (`-s`, `-l`, `-f`), or a checkpoint (`-i`, `-e`) of other modules.
    """

    def __init__(self, args: argparse.Namespace, config: dict[str, Any]) -> None:
        config = with_numbers(config)
        if args.mode == "train":
            if args.downstream in plugin.downstreams():
                check_known(config)
            runner_section(config)
            if config["runner"].get("fp16") and torch.device(args.device).type != "cuda":
                raise InputError(
                    f"config.runner.fp16: S3PRL's half precision needs CUDA, and here is --device {args.device}: give "
                    "-o config.runner.fp16=False."
                )
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
        with suppress(_Trained):
            super().train()

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """S3PRL's evaluation, on the modules themselves."""
        wrapped = [entry.model for entry in self.all_entries]
        for entry in self.all_entries:
            entry.model = _bare(entry.model)
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            for entry, model in zip(self.all_entries, wrapped):
                entry.model = model

    def inference(self) -> None:
        """S3PRL's inference; of a folder or Kaldi directory each utterance, called by its id (`clips`)."""
        path = Path(self.args.evaluate_split)
        if path.is_file():
            super().inference()
            return
        for clip in clips([path]):
            self.downstream.model.inference(self.features(clip), [clip.id])

    @torch.no_grad()
    def features(self, clip: Clip) -> list[Tensor]:
        """What the downstream gets of a piece of audio, [T, D] in a list; as S3PRL's `inference` computes it."""
        for entry in self.all_entries:
            entry.model.eval()
        expert = self.downstream.model
        if isinstance(expert, UtteranceExpert):
            wav = expert.load_audio(clip.path, clip.start or 0, clip.frames)
        else:
            wav = torch.from_numpy(clip.read())
        wavs = [wav.to(self.args.device)]
        return self.featurizer.model(wavs, self.upstream.model(wavs))

    def _load_weight(self, model: Any, name: str) -> None:
        try:
            super()._load_weight(model, name)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            mismatch = " ".join(str(error).strip().splitlines()[:2][-1].split())[:200]
            raise InputError(
                f"{self.args.init_ckpt}: its {name} does not fit what is asked for here ({mismatch}); take the "
                "upstream, -s, -l, downstream and modelrc that it was trained with."
            ) from error

    def _get_upstream(self) -> Any:
        entry = super()._get_upstream()
        trainable = self.args.mode == "train" and self.args.upstream_trainable
        if trainable and not any(weight.requires_grad for weight in entry.model.parameters()):
            raise InputError(f"-f: {self.args.upstream} has no weights to fine-tune; leave -f out.")
        return entry

    def _get_featurizer(self) -> Any:
        """S3PRL's Featurizer; what it would only warn of, or drop, is refused."""
        args = self.args
        layer, selection = args.upstream_layer_selection, args.upstream_feature_selection
        try:
            entry = super()._get_featurizer()
        except IndexError as error:
            raise InputError(f"-l {layer}: the upstream {args.upstream} has no such layer.") from error
        featurizer = _bare(entry.model)
        if featurizer.feature_selection != selection:
            raise InputError(f"-s {selection}: {args.upstream} gives no such features; leave -s out.")
        if args.mode == "train" and layer is not None and not self._has_layers(selection):
            raise InputError(f"-l {layer}: {args.upstream} gives {selection} of one layer; leave -l out.")
        if args.upstream_feature_normalize and not hasattr(featurizer, "weights"):
            raise InputError(
                "--upstream_feature_normalize: S3PRL normalises only where it sums several layers, and here is one."
            )
        return entry

    @torch.no_grad()
    def _has_layers(self, selection: str) -> bool:
        """Whether the features that `-s` selects are of several layers, so that S3PRL's Featurizer obeys `-l`."""
        upstream = _bare(self.upstream.model)
        found = upstream([torch.zeros(audio.SAMPLE_RATE, device=self.args.device)])[selection]
        return isinstance(found, (list, tuple, dict)) and len(found) > 1

    def _get_downstream(self) -> Any:
        entry = super()._get_downstream()
        expert = _bare(entry.model)
        if isinstance(expert, UtteranceExpert) and expert.fold and self.args.mode != "inference":
            print(f"[Runner] - {self.args.downstream}: {expert.fold} is held out for test")
        if isinstance(expert, UtteranceExpert) and expert.corpus and is_leader_process():
            agree = export.keep if self.args.mode == "train" else export.require_kept
            agree(expert.expdir, {expert.fold: expert.corpus})
        return entry

    def _get_optimizer(self, model_params: list[nn.Module]) -> Any:
        try:
            optimizer = super()._get_optimizer(model_params)
        except InputError:
            raise
        except (NameError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"config.optimizer {self.config['optimizer']} cannot be used: {error}."
            ) from error
        expert = _bare(self.downstream.model)
        if isinstance(expert, UtteranceExpert):
            expert.board = Board(self.args, self.config, optimizer, _bare(self.featurizer.model))
        if not is_leader_process():
            self._stop_after_last_step(optimizer)
        return optimizer

    def _stop_after_last_step(self, optimizer: Any) -> None:
        left = self.config["runner"]["total_steps"] - self.init_ckpt.get("Step", 0)
        zero_grad = optimizer.zero_grad

        def counting(*args: Any, **kwargs: Any) -> None:
            """S3PRL calls this once at the end of each step."""
            nonlocal left
            zero_grad(*args, **kwargs)
            left -= 1
            if left <= 0:
                raise _Trained

        optimizer.zero_grad = counting


def _bare(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model
