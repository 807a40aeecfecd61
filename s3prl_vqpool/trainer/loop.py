"""S3PRL's training loop on a store's pooled vectors: all learning rates and poolings at once.

Each head's folder is an experiment of S3PRL's runner (s3prl/downstream/runner.py): the same files, the same keys in
the checkpoints, the same order of the utterances, steps, logs and evaluations.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import unknown_name
from ..store import Store
from .data import Data
from .heads import Heads, Run
from .runs import agreed, begin, check, cut_log, groups, load, make, states, write

#: Rows whose logits are computed together in an evaluation.
CHUNK = 128


def train(
    store: Store,
    downstream: str,
    config: dict[str, Any],
    poolings: Sequence[str],
    rates: Sequence[float],
    folder: Path,
    seed: int,
) -> list[Run]:
    """Train one head per pooling and learning rate, in ``folder/POOLING/lr=RATE``; continues what is there.

    All heads start from the same parameters, drawn with ``seed``, and see the same batches, those of
    `TrainingSampler` (seed, epoch). Where S3PRL would read a random second of a noise file (Speech Commands'
    `_silence_`), one of the file's stored consecutive seconds is drawn, with a generator of (seed, epoch) that serves
    nothing else. Where S3PRL would cut a random piece of a long utterance in training (`max_timestep` of SID), the
    store has the whole utterance, and that is used.

    Args:
        config: as the runner reads it.
        poolings: names that the store holds.

    Returns:
        The runs, those of a pooling beside each other.

    Raises:
        InputError: a config that the runner cannot use or a store cannot serve, a store of another corpus, a folder of
            another configuration, or vectors that do not fit into memory.
    """
    check(config)
    for name in poolings:
        if name not in store.manifest["poolings"]:
            raise unknown_name(f"pooling in {store.folder}:", name, store.manifest["poolings"])
    runs = make(store, downstream, config, poolings, rates, folder, seed)
    there = [agreed(run) for run in runs]
    expert = runs[0].expert
    for split in config["runner"]["eval_dataloaders"]:
        if split not in expert.corpus.splits:  # type: ignore[union-attr]
            raise unknown_name("split in config.runner.eval_dataloaders:", split, expert.corpus.splits)  # type: ignore[union-attr]
    begun = [(step, Heads(group)) for step, group in groups(runs).items()]
    left = [(step, heads) for step, heads in begun if step < config["runner"]["total_steps"]]
    if left:
        data = Data(store, expert, poolings, ("train", *config["runner"]["eval_dataloaders"]), seed)
        for run, known in zip(runs, there):
            begin(run, known)
        for step, heads in left:
            Trainer(data, heads, config["runner"]).train(step)
    return runs


class Trainer:
    """Trains heads that are at the same step."""

    def __init__(self, data: Data, heads: Heads, runner: dict[str, Any]) -> None:
        self.data, self.heads, self.runner = data, heads, runner
        self.classes = heads.runs[0].expert.classes
        labels = {
            split: torch.tensor([utterance.label for utterance in utterances])
            for split, utterances in data.splits.items()
        }
        self.targets: dict[str, Tensor] = labels  # [N, slots] of each split

    def train(self, begun: int) -> None:
        """From the step after ``begun`` to the last one."""
        from tensorboardX import SummaryWriter

        runner, heads = self.runner, self.heads
        for run in heads.runs:
            if begun:
                run.load(load(run.folder / f"states-{begun}.ckpt"))
            cut_log(run.folder / "log.log", begun)
        accumulate, total = runner["gradient_accumulate_steps"], runner["total_steps"]
        seen: list[tuple[Tensor, Tensor, list[int]]] = []
        batches = self.data.batches(begun * accumulate)
        with ExitStack() as stack:
            self.loggers = [SummaryWriter(str(run.folder)) for run in heads.runs]
            for logger in self.loggers:
                stack.callback(logger.close)
            bar = stack.enter_context(
                tqdm(total=total, initial=begun, desc="training", disable=None, leave=False, file=sys.stderr)
            )
            for step in range(begun + 1, total + 1):
                for _ in range(accumulate):
                    epoch, batch, rows = next(batches)
                    losses, predicted = self._forward(rows, self.targets["train"][batch])
                    loss = losses.mean(dim=1)  # [H]
                    (loss.sum() / accumulate).backward()
                    seen.append((loss.detach(), predicted, batch))
                for run in heads.step(runner["gradient_clipping"]):
                    bar.write(f"{run.folder}: grad norm is NaN at step {step}", file=sys.stderr)
                if step % runner["log_step"] == 0:
                    self._log("train", step, *map(list, zip(*seen)))
                    seen = []
                self._evaluate_and_save(step, epoch)
                bar.update()

    def _forward(self, rows: Sequence[int], targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [H, B] and predicted classes [H, B, slots]."""
        logits = self.heads.logits(self.data.batch(self.heads.poolings, rows))
        slots = logits.split([len(names) for names in self.classes], dim=2)
        losses = [
            F.cross_entropy(slot.flatten(0, 1), targets[:, k].repeat(len(slot)), reduction="none")
            for k, slot in enumerate(slots)
        ]
        predicted = torch.stack([slot.detach().argmax(dim=2) for slot in slots], dim=2)
        return torch.stack(losses).sum(dim=0).view(len(logits), -1), predicted

    def _evaluate_and_save(self, step: int, epoch: int) -> None:
        runner, runs = self.runner, self.heads.runs
        best: list[list[str]] = [[] for _ in runs]
        if step % runner["eval_step"] == 0:
            for split in runner["eval_dataloaders"]:
                for names, more in zip(best, self._evaluate(split, step)):
                    names += more
        save = step % runner["save_step"] == 0
        for run, names in zip(runs, best):
            names += [f"states-{step}.ckpt"] if save else []
            state = run.state(step, epoch) if names else {}
            for name in names:
                write(run.folder / name, state)
        for run in runs if save else ():  # only now: at a kill, all heads have a step in common
            for old in states(run.folder)[: -runner["max_keep"]]:
                (run.folder / f"states-{old}.ckpt").unlink()

    @torch.no_grad()
    def _evaluate(self, split: str, step: int) -> list[list[str]]:
        rows, size = self.data.rows[split], self.heads.runs[0].expert.batch_size(split)
        ratio = float(self.runner.get("evaluate_ratio", 1))
        rows = rows[: (round(-(-len(rows) // size) * ratio) + 1) * size]  # S3PRL takes a batch more
        parts = [
            self._forward(rows[k : k + CHUNK], self.targets[split][k : k + CHUNK])
            for k in range(0, len(rows), CHUNK)
        ]
        losses, predicted = (torch.cat(each, dim=1) for each in zip(*parts))
        batches = [list(range(k, min(k + size, len(rows)))) for k in range(0, len(rows), size)]
        means = [each.mean(dim=1) for each in losses.split(size, dim=1)]
        return self._log(split, step, means, list(predicted.split(size, dim=1)), batches)

    def _log(
        self,
        split: str,
        step: int,
        losses: list[Tensor],
        predicted: list[Tensor],
        batches: list[list[int]],
    ) -> list[list[str]]:
        """Let each expert log what its head did on some batches; the names of the checkpoints to save."""
        indices = [index for batch in batches for index in batch]
        utterances = [self.data.splits[split][index] for index in indices]
        targets = self.targets[split][indices]
        common = {
            "filename": [utterance.id for utterance in utterances],
            "weight": [utterance.weight for utterance in utterances],
            "truth": self._names(targets),
        }
        joined = torch.cat(predicted, dim=1)  # [H, N, slots]
        right = (joined == targets).all(dim=2).float().tolist()
        names = []
        for run, logger, loss, acc, found in zip(
            self.heads.runs, self.loggers, torch.stack(losses, dim=1).tolist(), right, joined
        ):
            records = {**common, run.expert.loss_name: loss, "acc": acc, "predict": self._names(found)}
            with redirect_stdout(io.StringIO()):
                names.append(run.expert.log_records(split, records, logger, step))
        return names

    def _names(self, indices: Tensor) -> list[tuple[str, ...]]:
        slots = [[names[k] for k in column] for names, column in zip(self.classes, indices.T.tolist())]
        return list(zip(*slots))
