"""What stands beside the accuracies of a table: intervals, tests against AP, accuracies of single slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean

import numpy as np
from torch import Tensor

from .intervals import by_speaker, holm, limits, mcnemar, resampled
from .stores import StoredTask
from .table import Row

#: What every pooling is compared with.
BASE = "AP"
#: task -> of each fold, the labels int64 [seeds, n, slots] of the first n utterances of test.
Predicted = Mapping[str, Sequence[Tensor]]


def beside(row: Row, tasks: Sequence[StoredTask], predicted: Predicted) -> Row:
    """A row with 95 % intervals, and the accuracies of the slots where a label has several.

    The interval is that of the figure in the table: folds count alike, and of an utterance it is the mean over seeds.
    It says what other utterances and speakers would change; the deviation over seeds is another thing. Tasks are
    resampled apart for the average.
    """
    samples = {}
    for task in tasks:
        values, weights, speakers = zip(*_folds(task, predicted[task.name]))
        speakers_of_all = [each for fold in speakers for each in fold]
        seed = list(task.name.encode())
        samples[task.name] = resampled(
            np.concatenate(values), np.concatenate(weights), speakers_of_all, seed=seed
        )
    if row.average is not None:
        samples["AVG"] = np.mean(list(samples.values()), axis=0)
    slots = {task.name: _slots(task, predicted[task.name]) for task in tasks if task.slots}
    return replace(row, interval={name: limits(each) for name, each in samples.items()}, slots=slots)


def _folds(
    task: StoredTask, predicted: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Of each fold, per utterance: share of seeds that are right, weight, speaker."""
    for fold, found in zip(task.folds, predicted):
        rows = fold.test[: found.size(1)]
        right = (found == task.labels[rows]).all(dim=2).double().mean(dim=0).numpy()
        yield right, np.full(len(right), 1 / len(right)), [task.speakers[row] for row in rows.tolist()]


def _slots(task: StoredTask, predicted: Sequence[Tensor]) -> dict[str, float]:
    """Accuracy in % of each slot, mean over folds and seeds."""
    right = [
        (found == task.labels[fold.test[: found.size(1)]]).double().mean(dim=(0, 1))
        for fold, found in zip(task.folds, predicted)
    ]
    return {name: 100 * mean(float(each[k]) for each in right) for k, name in enumerate(task.slots)}


def compared(tasks: Sequence[StoredTask], predicted: Mapping[str, Predicted]) -> dict[str, dict[str, float]]:
    """Pooling -> task -> p-value that it is right as often as AP; none where AP is not among them.

    McNemar's exact test on the test utterances of all folds with the first seed, as several seeds of one utterance
    are no further utterances; corrected by Holm's method over the poolings of a task.

    Args:
        predicted: by pooling.
    """
    others = [name for name in predicted if name != BASE]
    found: dict[str, dict[str, float]] = {name: {} for name in others}
    for task in tasks if BASE in predicted else ():
        right = {name: _first_seed(task, each[task.name]) for name, each in predicted.items()}
        corrected = holm([mcnemar(right[name], right[BASE]) for name in others])
        for name, value in zip(others, corrected):
            found[name][task.name] = value
    return found


def _first_seed(task: StoredTask, predicted: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([right for right, *_ in _folds(task, [found[:1] for found in predicted])])


def with_tests(
    rows: Sequence[Row], tasks: Sequence[StoredTask], predicted: Mapping[str, Predicted]
) -> list[Row]:
    """Rows with the p-values of `compared`."""
    found = compared(tasks, predicted)
    return [replace(row, p=found.get(row.pooling, {})) for row in rows]


def notes(tasks: Sequence[StoredTask], poolings: Sequence[str], seeds: int) -> Iterator[str]:
    """How intervals and tests were made, in words."""
    drawn = ", ".join(f"{task.name} by {_unit(task)}" for task in tasks)
    yield f"[low, high] or low-high: 95 % interval, bootstrap ({drawn})"
    if BASE not in poolings:
        yield f"no test against {BASE}, as it is not among the poolings: add it to --poolings"
    elif len(poolings) > 1:
        one = ", first seed" if seeds > 1 else ""
        yield (
            f"†: differs from {BASE}, p < 0.05 (McNemar's exact test{one}; Holm's correction, comparisons of a "
            f"task: {len(poolings) - 1})"
        )


def _unit(task: StoredTask) -> str:
    speakers = [task.speakers[row] for fold in task.folds for row in fold.test.tolist()]
    if by_speaker(speakers) is None:
        return "utterance"
    return f"speaker: {len({*speakers} - {''})}"
