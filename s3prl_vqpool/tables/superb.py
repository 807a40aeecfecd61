"""SUPERB's head in Table 2: learned layer weights, projector and output layer on stored vectors, trained as S3PRL does.

The heads are experiments below a work folder, as `vqpool train` leaves them, so that a killed command continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import pooling
from ..errors import InputError
from ..runner import config as configs
from ..runner.config import rate_of
from ..store import manifest
from ..trainer import train
from ..trainer.batched import Run
from ..trainer.runs import best
from .linear import Fits
from .nearest import Fold, share_right
from .stores import StoredTask
from .supervised import Measured, Score, Scores, chosen, listed


def choose(names: Sequence[str] | None, tasks: Sequence[StoredTask]) -> list[str]:
    """Poolings as stores name them, each once; by default those that all stores have.

    Raises:
        InputError: an unknown pooling, one that is fitted or learned, or one that a store does not have.
    """
    every = [name for name in tasks[0].stored if all(name in task.stored for task in tasks)]
    every = [name for name in every if pooling.method(name).moments is None]  # the trainer says why
    if names is None:
        return every
    wanted = manifest.checked(names, statistics=True, offered=every)
    for name in wanted:
        for task in tasks:
            if name not in task.stored:
                raise InputError(f"{task.path}: {_lack(name, task)}, or leave it out.")
    return wanted


def _lack(name: str, task: StoredTask) -> str:
    if len(task.folds) > 1 and pooling.method(name).needs_counts:
        return (
            f"{name} has training statistics, and a store has those of one fold alone: give --protocol paper"
        )
    return (
        f"has no vectors of {name}: extract with --poolings, or vqpool store add-pooling {task.path} {name}"
    )


def measure(
    tasks: Sequence[StoredTask],
    names: Sequence[str],
    rates: Sequence[float] | None,
    seeds: Sequence[int],
    override: str | None,
    folder: Path,
    tick: Callable[[str], None],
) -> Measured:
    """Scores of poolings ``names``.

    Args:
        rates: None is the rate of each task's config.
        override: `-o` for the config of every task.
        folder: where the heads are trained; what is there already is continued.
        tick: is called for each fold and seed of a task.

    Raises:
        InputError: a config that the trainer cannot use, or that never evaluates dev and test; a folder that
            was begun with other options.
    """
    heads = []
    for task in tasks:
        found = config(task, override)
        heads.append(Experiments(task, names, found, tuple(rates or [rate_of(found)]), folder / task.name))
    scores: Scores = {name: {} for name in names}
    for each in heads:
        folds = [each.evaluate(fold, seeds, tick) for fold in each.task.folds]
        for name in names:
            scores[name][each.task.name] = [fold[name] for fold in folds]
    lines = {h.task.name: f"{h.config['runner']['total_steps']} steps, lr {listed(h.rates)}" for h in heads}
    full = {each.task.name: each.config for each in heads}
    return Measured("superb", "SUPERB's head on stored vectors, test accuracy in %", scores, lines, full)


def config(task: StoredTask, override: str | None) -> dict[str, Any]:
    """The default config of a task with `-o` applied; the corpus is the store's.

    Raises:
        InputError: a config that the trainer cannot use, that never evaluates dev and test, or that names a fold.
    """
    manifest, key = task.store.manifest, task.kind.fold_key
    found = configs.read(manifest["downstream"], None, override, manifest["datarc"])
    named = found["downstream_expert"]["datarc"].get(key)
    if named != manifest["datarc"].get(key):
        raise InputError(f"-o datarc.{key}={named}: every fold is held out in turn here; leave it out.")
    runner = configs.runner_section(found)
    if runner["eval_step"] > runner["total_steps"]:
        raise InputError(
            f"config.runner.eval_step {runner['eval_step']}: is above total_steps {runner['total_steps']}, so that "
            "dev would never choose: give both with -o."
        )
    evaluated = runner["eval_dataloaders"]
    if not isinstance(evaluated, list) or not {"dev", "test"} <= set(evaluated):
        raise InputError(
            f"config.runner.eval_dataloaders: expected a list with dev and test, but got {evaluated!r}."
        )
    return found


@dataclass(frozen=True)
class Experiments:
    """A task's heads, of every pooling and rate, below ``folder``."""

    task: StoredTask
    names: Sequence[str]
    config: dict[str, Any]
    rates: tuple[float, ...]
    folder: Path

    def evaluate(self, fold: Fold, seeds: Sequence[int], tick: Callable[[str], None]) -> dict[str, Score]:
        """The score of each pooling in one fold; ``tick`` is called for each seed."""
        results: dict[str, list[Run]] = {name: [] for name in self.names}
        for seed in seeds:
            for run in self.train(fold, seed):
                results[run.pooling].append(run)
            tick(" ".join([self.task.name, *filter(None, [fold.name]), f"seed {seed}"]))
        shape, scores = (1, len(seeds), len(self.rates)), {}
        for name, runs in results.items():
            figures = torch.tensor([_figures(run) for run in runs], dtype=torch.float64)
            dev, test, step = figures.unflatten(0, shape).unbind(-1)
            predicted = torch.stack([self._predicted(run, fold) for run in runs]).unflatten(0, shape)
            scores[name] = chosen(fold.name, Fits(dev, test, step.long(), predicted), self.rates)
        return scores

    def train(self, fold: Fold, seed: int) -> list[Run]:
        """The heads of a fold and seed; those of a pooling beside each other, by rate."""
        config = deepcopy(self.config)
        if fold.name:
            config["downstream_expert"]["datarc"][self.task.kind.fold_key] = fold.name
        store, folder = self.task.store, self.folder / fold.name / f"seed={seed}"
        return train(store, store.manifest["downstream"], config, self.names, self.rates, folder, seed)

    def _predicted(self, run: Run, fold: Fold) -> Tensor:
        """Labels int64 [n, slots] of the first n utterances of test, from the prediction file of a head.

        Raises:
            InputError: a file that is not there, or not of the model that the head's log tells of.
        """
        kind, store = self.task.kind, self.task.store
        path = run.folder / f"{kind.stem('test', fold.name)}_predict.{kind.suffix}"
        wrong = InputError(
            f"{path}: not the predictions of dev-best.ckpt: remove {run.folder}, and train it again."
        )
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise wrong from None
        rows = fold.test[: len(lines)]
        index = [{name: k for k, name in enumerate(names)} for names in self.task.names]
        found = []
        for line, row in zip(lines, rows.tolist()):
            name, *labels = line.split(kind.separator, max(kind.slots, len(index)))
            labels = (
                labels if len(index) > 1 else ["|".join(labels)]
            )  # IC's intents31 are three fields of a line
            if name != store.utterances[row].id or len(labels) != len(index):
                raise wrong
            found.append([known.get(label, -1) for known, label in zip(index, labels)])
        predicted = torch.tensor(found)
        if abs(share_right(predicted, self.task.labels[rows]) - _figures(run)[1]) > 1e-3:
            raise wrong
        return predicted


def _figures(run: Run) -> tuple[float, float, int]:
    found = best(run)
    if found is None:
        raise InputError(
            f"{run.folder / 'log.log'}: says nothing of dev: remove this folder, and train it again."
        )
    step, dev, test = found
    return 100 * dev, 100 * test, step
