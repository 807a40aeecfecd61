"""S3PRL's training loop on a store's pooled vectors: all learning rates and poolings at once.

Each head's folder is an experiment of S3PRL's runner (s3prl/downstream/runner.py): the same files, the same keys in
the checkpoints, the same order of the utterances, steps, logs and evaluations.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import InputError, unknown_name
from ..files import alone
from ..pooling import method
from ..runner.board import Board
from ..store import Store
from ..store.progress import Progress
from ..store.threads import side_by_side
from .batched import Heads, Run, batched
from .data import Data
from .runs import agreed, begin, check, cut_log, groups, load, make, states, write
from .stacked import Forward

#: Names of checkpoints to save, and the records that the expert logged.
Logged = tuple[list[str], dict[str, list]]

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
    """Train one head for each pooling and learning rate in ``folder/POOLING/lr=RATE``, or continue it.

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
        InputError: a pooling with a standard deviation, a config that the runner or a store cannot use, a store of
            another corpus, a folder of another configuration, one that another process writes to, or
            vectors that do not fit into memory.
    """
    check(config)
    for name in poolings:
        if name not in store.poolings:
            raise unknown_name(f"pooling in {store.folder}:", name, store.poolings)
        if method(name).moments is not None:
            raise InputError(
                f"{name}: SUPERB's head learns a sum over layers and a projection, and the standard deviation of "
                "that does not follow from those of the layers: train with run_downstream.py."
            )
    runs = make(store, downstream, config, poolings, rates, folder, seed)
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(alone(run.folder))
        _continue(store, config, poolings, runs, seed)
    return runs


def _continue(
    store: Store, config: dict[str, Any], poolings: Sequence[str], runs: Sequence[Run], seed: int
) -> None:
    """Train the runs from where each of them is."""
    there = [agreed(run) for run in runs]
    expert, *_ = (run.expert for run in runs)
    for split in config["runner"]["eval_dataloaders"]:
        if split not in expert.corpus.splits:  # type: ignore[union-attr]
            raise unknown_name("split in config.runner.eval_dataloaders:", split, expert.corpus.splits)  # type: ignore[union-attr]
    begun = [(step, batched(group)) for step, group in groups(runs).items()]
    left = [(step, heads) for step, heads in begun if step < config["runner"]["total_steps"]]
    if left:
        data = Data(store, expert, poolings, ("train", *config["runner"]["eval_dataloaders"]), seed)
        for run, known in zip(runs, there):
            begin(run, known)
        for step, heads in left:
            Trainer(data, heads, config["runner"]).train(step)


class Trainer:
    """Trains heads that are at the same step."""

    def __init__(self, data: Data, heads: Sequence[Heads], runner: dict[str, Any]) -> None:
        self.data, self.heads, self.runner = data, heads, runner
        self.runs = [run for each in heads for run in each.runs]
        self.expert, *_ = (run.expert for run in self.runs)  # all have the same classes and batch sizes
        labels = {
            split: torch.tensor([utterance.label for utterance in utterances])
            for split, utterances in data.splits.items()
        }
        self.targets: dict[str, Tensor] = labels  # [N, slots] of each split

    def train(self, begun: int) -> None:
        """From the step after ``begun`` to the last one."""
        from tensorboardX import SummaryWriter

        runner, total = self.runner, self.runner["total_steps"]
        for run in self.runs:
            if begun:
                run.load(load(run.folder / f"states-{begun}.ckpt"))
            cut_log(run.folder / "log.log", begun)
            run.expert.board = Board(run.args, run.config, run.optimizer, run.featurizer)
        self.chosen: dict[int, tuple[int, dict[str, dict[str, list]]]] = {}  # run -> step, records by split
        batches = self.data.batches(begun * runner["gradient_accumulate_steps"])
        seen: list[tuple[Tensor, Tensor, list[int]]] = []
        with ExitStack() as stack:
            self.loggers = [SummaryWriter(str(run.folder)) for run in self.runs]
            for logger in self.loggers:
                stack.callback(logger.close)
            self.map = stack.enter_context(side_by_side(len(self.heads)))
            progress = stack.enter_context(Progress("training", total - begun, "step"))
            for step in range(begun + 1, total + 1):
                drawn = list(islice(batches, runner["gradient_accumulate_steps"]))
                losses, predicted = _joined(list(self.map(partial(self._update, drawn, step), self.heads)))
                seen.append((losses, predicted, [index for _, batch, _ in drawn for index in batch]))
                if step % runner["log_step"] == 0:
                    parts, answers, indices = zip(*seen)
                    self._log(
                        "train", step, torch.cat(parts, 1), torch.cat(answers, 1), list(chain(*indices))
                    )
                    seen = []
                self._evaluate_and_save(step, epoch=drawn[-1][0])
                progress.advance()
            self._draw()

    def _draw(self) -> None:
        """Log the confusion matrices of the predictions that were written last; only now, as it takes time."""
        for number, (step, by_split) in self.chosen.items():
            for split, records in by_split.items():
                self.runs[number].expert.log_confusion(split, records, self.loggers[number], step)

    def _update(
        self, drawn: Sequence[tuple[int, list[int], list[int]]], step: int, heads: Heads
    ) -> tuple[Tensor, Tensor]:
        """A step on batches as `Data.batches` gives them; loss of each [H, batches], predictions [H, N, slots]."""
        parts = []
        for _, batch, rows in drawn:
            done, losses, predicted = self._forward(heads, rows, self.targets["train"][batch])
            loss = losses.mean(dim=1)
            heads.backward(done, *torch.autograd.grad(loss.sum() / len(drawn), done.logits))
            parts.append((loss.detach()[:, None], predicted))
        for run in heads.step(self.runner["gradient_clipping"]):
            tqdm.write(f"{run.folder}: grad norm is NaN at step {step}", file=sys.stderr)
        return _joined(parts, dim=1)

    def _forward(self, heads: Heads, rows: Sequence[int], targets: Tensor) -> tuple[Forward, Tensor, Tensor]:
        """What `Heads.forward` gives, loss [H, B] as a function of its logits, and predicted classes [H, B, slots]."""
        done = heads.forward(self.data.batch(heads.pooling, rows))
        slots = done.logits.requires_grad_().split([len(names) for names in self.expert.classes], dim=2)
        losses = [
            F.cross_entropy(slot.flatten(0, 1), targets[:, k].repeat(len(slot)), reduction="none")
            for k, slot in enumerate(slots)
        ]
        predicted = torch.stack([slot.detach().argmax(dim=2) for slot in slots], dim=2)
        return done, torch.stack(losses).sum(dim=0).view(len(predicted), -1), predicted

    def _evaluate_and_save(self, step: int, epoch: int) -> None:
        runner, runs = self.runner, self.runs
        best = self._evaluate(step) if step % runner["eval_step"] == 0 else [[] for _ in runs]
        save = step % runner["save_step"] == 0 or step == runner["total_steps"]
        for run, names in zip(runs, best):
            names += [f"states-{step}.ckpt"] if save else []
            state = run.state(step, epoch) if names else {}
            for name in names:
                write(run.folder / name, state)
        for run in runs if save else ():  # only now: at a kill, all heads have a step in common
            for old in states(run.folder)[: -runner["max_keep"]]:
                (run.folder / f"states-{old}.ckpt").unlink()

    def _evaluate(self, step: int) -> list[list[str]]:
        """Evaluate all splits; for each run the names of the checkpoints to save.

        The predictions of a run are those of the step that `runs.best` reports: of ``dev-best.ckpt``, or of the first
        evaluation as long as dev is 0. Without dev among the splits they are those of the latest evaluation.
        """
        splits, found = self.runner["eval_dataloaders"], []
        others = step == self.runner["eval_step"] or "dev" not in splits
        by_split = [self._evaluate_split(split, step) for split in splits]
        for number, (run, logged) in enumerate(zip(self.runs, zip(*by_split))):
            found.append([name for names, _ in logged for name in names])
            if found[-1] or others:
                self.chosen[number] = step, {split: records for split, (_, records) in zip(splits, logged)}
                for split, (_, records) in zip(splits, logged):
                    run.expert.write_predictions(split, records, step)
        return found

    def _evaluate_split(self, split: str, step: int) -> list[Logged]:
        rows, size = self.data.rows[split], self.expert.batch_size(split)
        ratio = self.runner.get("evaluate_ratio", 1)
        rows = rows[: (round(-(-len(rows) // size) * ratio) + 1) * size]  # S3PRL takes a batch more
        losses, predicted = _joined(
            list(self.map(partial(self._answers, rows, self.targets[split][: len(rows)]), self.heads))
        )
        means = [each.mean(dim=1) for each in losses.split(size, dim=1)]
        return self._log(split, step, torch.stack(means, dim=1), predicted, list(range(len(rows))))

    @torch.no_grad()
    def _answers(self, rows: Sequence[int], targets: Tensor, heads: Heads) -> tuple[Tensor, Tensor]:
        """Loss [H, N] and predictions [H, N, slots] of each row."""
        chunks = [slice(k, k + CHUNK) for k in range(0, len(rows), CHUNK)]
        return _joined([self._forward(heads, rows[chunk], targets[chunk])[1:] for chunk in chunks], dim=1)

    def _log(
        self, split: str, step: int, losses: Tensor, predicted: Tensor, indices: list[int]
    ) -> list[Logged]:
        """Let each expert log its head's results. Returns names of the checkpoints to save, and what was logged.

        Args:
            losses: [H, batches], the mean of each.
            predicted: [H, N, slots] of the N utterances of the split with these ``indices``.
        """
        utterances = [self.data.splits[split][index] for index in indices]
        targets = self.targets[split][indices]
        common = {
            "filename": [utterance.id for utterance in utterances],
            "weight": [utterance.weight for utterance in utterances],
            "truth": self._names(targets),
        }
        right = (predicted == targets).all(dim=2).float().tolist()
        logged = []
        for run, logger, loss, acc, found in zip(self.runs, self.loggers, losses.tolist(), right, predicted):
            records = {**common, run.expert.loss_name: loss, "acc": acc, "predict": self._names(found)}
            with redirect_stdout(io.StringIO()):
                logged.append((run.expert.log_records(split, records, logger, step), records))
        return logged

    def _names(self, indices: Tensor) -> list[tuple[str, ...]]:
        slots = [[names[k] for k in column] for names, column in zip(self.expert.classes, indices.T.tolist())]
        return list(zip(*slots))


def _joined(parts: Sequence[tuple[Tensor, ...]], dim: int = 0) -> tuple[Tensor, Tensor]:
    """Losses and predictions of several heads, or (``dim`` 1) of several batches, as one."""
    losses, predicted = (torch.cat(each, dim) for each in zip(*parts))
    return losses, predicted
