"""Table 1 of arXiv 2304.03940 for the stores that are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from .. import pooling
from ..errors import InputError
from ..pooling.options import in_short
from . import evidence, nearest, predictions, stores
from .nearest import Score
from .provenance import stored, versions
from .published import TABLE1
from .stores import StoredTask
from .table import Row, Table, about_published, measured, published, told

if TYPE_CHECKING:
    import pandas as pd

#: pooling -> task -> the score of each fold
Scores = dict[str, dict[str, list[Score]]]


def unsupervised() -> list[str]:
    """Every pooling that is not learned, in the order of the paper's table."""
    return [name for name in pooling.methods() if pooling.method(name).learned is None]


def rows_without_frames(stored: Sequence[str]) -> list[str]:
    """Those of `unsupervised` that a store gives that was extracted without frames, with poolings ``stored``."""
    known = [pooling.method(name) for name in unsupervised()]
    return [each.name for each in known if each.moments is None and each.unmapped.name in stored]


def choose(names: Sequence[str] | None, tasks: Sequence[StoredTask]) -> list[str]:
    """Poolings as they are registered, each once; by default those that all ``tasks`` give.

    Raises:
        InputError: an unknown or learned pooling, or one that needs frames where none are stored.
    """
    if names is None:
        return stores.available(unsupervised(), tasks)
    chosen = pooling.select(names, stores.available([*unsupervised(), *pooling.points()], tasks))
    for name in chosen:
        if pooling.method(name).learned is not None:
            raise InputError(
                f"--poolings {name}: is learned with a head. Without one: {', '.join(unsupervised())}."
            )
    stores.demand(chosen, tasks)
    return chosen


def make(
    tasks: Sequence[StoredTask],
    names: Sequence[str],
    given: Mapping[str, Mapping[str, Any]],
    layers: bool,
    reference: bool,
    tick: Callable[[str], None],
) -> Table:
    """The table of poolings ``names``.

    Args:
        given: of a pooling, the options that dev does not choose.
        layers: whether to add the accuracy of every single layer of the poolings whose vectors all stores have.
        reference: whether to add the published figures.
        tick: is called with what was evaluated, after each of `steps`.
    """
    scores: Scores = {name: {} for name in names}
    for task in tasks:
        for name in names:
            found = nearest.evaluate(name, task.features, task.labels, task.folds, given.get(name))
            scores[name][task.name] = list(found)
            tick(f"{task.name} {name}")
    source = tasks[0].store.manifest["upstream"]
    predicted = {name: _predicted(by_task) for name, by_task in scores.items()}
    rows = [
        evidence.beside(
            measured(source, name, {task: _mean(folds) for task, folds in scores[name].items()}),
            tasks,
            predicted[name],
        )
        for name in names
    ]
    rows = evidence.with_tests(rows, tasks, predicted)
    columns = tuple(task.name for task in tasks)
    if reference:
        rows += published(TABLE1, names, columns)
    if layers:
        for name in stores.layered(names, tasks):
            rows += by_layer(source, name, tasks)
            tick(f"layers of {name}")
    notes = [*_notes(tasks, scores), *evidence.notes(tasks, names, seeds=1)]
    notes += about_published(1, columns) if reference else []
    return Table(
        "Nearest neighbour by angle, test accuracy in %",
        columns,
        rows,
        notes,
        _configuration(tasks, scores),
        _predictions(tasks, scores),
    )


def steps(tasks: Sequence[StoredTask], names: Sequence[str], layers: bool) -> int:
    """How often `make` calls ``tick``."""
    return len(tasks) * len(names) + (len(stores.layered(names, tasks)) if layers else 0)


def by_layer(source: str, name: str, tasks: Sequence[StoredTask]) -> list[Row]:
    """A row for each layer of pooling ``name``, 0 first: for wav2vec 2.0 the projected CNN output."""
    scores: list[dict[str, list[Score]]] = [{} for _ in range(tasks[0].store.manifest["layers"])]
    for task in tasks:
        for layer, vectors in zip(scores, task.features.stored(name).unbind(1)):  # [N, layers, D]
            layer[task.name] = [nearest.score(vectors, task.labels, fold) for fold in task.folds]
    rows = []
    for number, layer in enumerate(scores):
        row = measured(source, name, {task: _mean(folds) for task, folds in layer.items()}, number)
        rows.append(evidence.beside(row, tasks, _predicted(layer)))
    return rows


def _predicted(by_task: Mapping[str, Sequence[Score]]) -> evidence.Predicted:
    return {task: [score.predicted[None] for score in folds] for task, folds in by_task.items()}


def _predictions(tasks: Sequence[StoredTask], scores: Scores) -> pd.DataFrame:
    return predictions.joined(
        [
            predictions.rows(task, fold, name, score.predicted)
            for name, by_task in scores.items()
            for task in tasks
            for fold, score in zip(task.folds, by_task[task.name])
        ]
    )


def _mean(folds: Sequence[Score]) -> float:
    return mean(score.accuracy for score in folds)


def _notes(tasks: Sequence[StoredTask], scores: Scores) -> list[str]:
    notes = []
    for task in tasks:
        indexed = ", ".join(str(len(fold.train)) for fold in task.folds)
        mean_of = f", mean of {len(task.folds)} folds" if len(task.folds) > 1 else ""
        notes.append(f"{task.name}: {task.corpus}; indexed {indexed}{mean_of}")
    for name, by_task in scores.items():
        for column, folds in by_task.items():
            notes += options_in_words(name, column, folds)
    return notes


def options_in_words(name: str, column: str, folds: Sequence[Any]) -> list[str]:
    """A note for each option of pooling ``name`` that was given, or that dev of each fold chose.

    ``folds``: the score of each, with ``options`` and ``candidates``.
    """
    notes = []
    for option in folds[0].options:
        values = ", ".join(in_short(score.options[option]) for score in folds)
        tried = {str(each.options[option]) for each in folds[0].candidates}
        chosen = "chosen on dev of each fold" if len(folds) > 1 else "chosen on dev"
        notes.append(f"{name}, {column}: {option} = {values}, {chosen if len(tried) > 1 else 'as given'}")
    return notes


def _configuration(tasks: Sequence[StoredTask], scores: Scores) -> dict[str, object]:
    return {
        "versions": versions(),
        "scores": {
            name: {task: [told(score) for score in folds] for task, folds in by_task.items()}
            for name, by_task in scores.items()
        },
        "stores": {task.name: stored(task) for task in tasks},
    }
