"""Table 2 of arXiv 2304.03940 for the stores that are given: what was measured, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from .. import pooling
from . import evidence, predictions, stores
from .layers import NOTE, LayerScores
from .provenance import stored, versions
from .published import TABLE2
from .stores import StoredTask
from .supervised import Measured, Score, listed
from .table import Row, Table, about_published, published, repeated, told
from .table1 import options_in_words

if TYPE_CHECKING:
    import pandas as pd

OTHER_HEAD = "paper: its heads are one linear layer on pooled vectors, not SUPERB's."


def choose(names: Sequence[str] | None, tasks: Sequence[StoredTask]) -> list[str]:
    """Poolings as they are registered, each once; by default those that all ``tasks`` give.

    Raises:
        InputError: an unknown pooling, or one that needs frames where none are stored.
    """
    if names is None:
        return stores.available(pooling.methods(), tasks)
    chosen = pooling.select(names, stores.available([*pooling.methods(), *pooling.points()], tasks))
    stores.demand(chosen, tasks)
    return chosen


def make(
    measured: Measured,
    layers: LayerScores,
    tasks: Sequence[StoredTask],
    seeds: Sequence[int],
    reference: bool,
) -> Table:
    """The table of what was measured: means and sample standard deviations over ``seeds``.

    Args:
        layers: of the poolings whose single layers are to be shown.
        reference: whether to add the published figures.
    """
    source = tasks[0].store.manifest["upstream"]
    columns = tuple(task.name for task in tasks)
    predicted = {name: _predicted(by_task) for name, by_task in measured.scores.items()}
    rows = [
        evidence.beside(
            repeated(source, name, {task: over_folds(folds) for task, folds in by_task.items()}),
            tasks,
            predicted[name],
        )
        for name, by_task in measured.scores.items()
    ]
    rows = evidence.with_tests(rows, tasks, predicted)
    rows += published(TABLE2, measured.scores, columns) if reference else []
    for name, by_layer in layers.items():
        rows += _by_layer(source, name, by_layer, tasks)
    notes = [*_notes(measured, tasks, seeds), *_choices(measured)]
    notes += evidence.notes(tasks, list(predicted), len(seeds))
    notes += [NOTE] if layers else []
    notes += about_published(2, columns) if reference else []
    notes += [OTHER_HEAD] if reference and measured.protocol == "superb" else []
    configuration = _configuration(measured, layers, tasks, seeds)
    return Table(measured.title, columns, rows, notes, configuration, _predictions(measured, tasks, seeds))


def _predictions(measured: Measured, tasks: Sequence[StoredTask], seeds: Sequence[int]) -> pd.DataFrame:
    return predictions.joined(
        [
            predictions.rows(task, fold, name, predicted, seed)
            for name, by_task in measured.scores.items()
            for task in tasks
            for fold, score in zip(task.folds, by_task[task.name])
            for seed, predicted in zip(seeds, score.predicted)
        ]
    )


def over_folds(folds: Sequence[Score]) -> list[float]:
    """Accuracy of each seed, mean over folds."""
    return [mean(each) for each in zip(*(score.accuracy for score in folds))]


def _by_layer(
    source: str, name: str, by_task: dict[str, dict[int | str, list[Score]]], tasks: Sequence[StoredTask]
) -> list[Row]:
    rows = []
    for layer in next(iter(by_task.values())):
        scores = {task: found[layer] for task, found in by_task.items()}
        row = repeated(source, name, {task: over_folds(folds) for task, folds in scores.items()}, layer)
        rows.append(evidence.beside(row, tasks, _predicted(scores)))
    return rows


def _predicted(by_task: Mapping[str, Sequence[Score]]) -> evidence.Predicted:
    return {task: [score.predicted for score in folds] for task, folds in by_task.items()}


def _notes(measured: Measured, tasks: Sequence[StoredTask], seeds: Sequence[int]) -> Iterator[str]:
    spread = "mean and standard deviation over seeds" if len(seeds) > 1 else "seed"
    yield f"{spread} {', '.join(map(str, seeds))}; each at its best evaluation on dev"
    for task in tasks:
        mean_of = f", mean of {len(task.folds)} folds" if len(task.folds) > 1 else ""
        yield f"{task.name}: {task.corpus}; {measured.lines[task.name]}{mean_of}"


def _choices(measured: Measured) -> Iterator[str]:
    for name, by_task in measured.scores.items():
        for column, folds in by_task.items():
            where = "chosen on dev of each fold" if len(folds) > 1 else "chosen on dev"
            if len({each.rate for each in folds[0].candidates}) > 1:
                yield f"{name}, {column}: lr = {listed(score.rate for score in folds)}, {where}"
            yield from options_in_words(name, column, folds)


def _configuration(
    measured: Measured, layers: LayerScores, tasks: Sequence[StoredTask], seeds: Sequence[int]
) -> dict[str, object]:
    return {
        "versions": versions(),
        "protocol": measured.protocol,
        "seeds": list(seeds),
        "settings": measured.settings,
        "scores": {
            name: {task: [told(score) for score in folds] for task, folds in by_task.items()}
            for name, by_task in measured.scores.items()
        },
        "layers": {
            name: {
                task: {layer: [told(score) for score in folds] for layer, folds in by_layer.items()}
                for task, by_layer in by_task.items()
            }
            for name, by_task in layers.items()
        },
        "stores": {task.name: stored(task) for task in tasks},
    }
