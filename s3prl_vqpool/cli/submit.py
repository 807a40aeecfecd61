"""`vqpool submit`: predict.zip for the SUPERB leaderboard."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..corpora.tasks import Task, by_name, registered
from ..errors import InputError
from ..files import asked_for
from .options import add_corpora, add_overwrite

if TYPE_CHECKING:
    from ..runner.submission import Predictions

HELP = (
    "Check the test predictions of experiments and zip them for the SUPERB leaderboard. Only predictions that "
    "run_downstream.py -m evaluate -e EXPDIR/dev-best.ckpt wrote are accepted."
)
EXAMPLE = "vqpool submit --ks exp1 --er fold1 fold2 fold3 fold4 fold5 --output submission/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for task in on_the_leaderboard():
        parser.add_argument(
            f"--{task.name}",
            type=Path,
            nargs="+" if task.folds else 1,
            metavar="EXPDIR",
            help=f"experiments of -d {task.downstream}, one for each fold"
            if task.folds
            else f"experiment of -d {task.downstream}",
        )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for predict.zip")
    add_corpora(parser)
    add_overwrite(parser)


def on_the_leaderboard() -> list[Task]:
    """The tasks that SUPERB's leaderboard has."""
    return [task for task in registered() if task.official]


def run(args: argparse.Namespace) -> int:
    from ..runner import submission

    found = collect(
        {task.name: getattr(args, task.name) or [] for task in on_the_leaderboard()}, args.corpora
    )
    with asked_for(args.output / "predict.zip", overwrite=args.overwrite):
        written = submission.write_zip(args.output, found)
    for line in [*table(found), "", *verdict(found)]:
        print(line)
    print(f"wrote {written}")
    return 0


def collect(given: dict[str, list[Path]], corpora: Path | None = None) -> list[Predictions]:
    """The predictions of all experiments given, by the name of their task.

    Raises:
        InputError: none given, two of the same fold, or any that `submission.collect` refuses.
    """
    from ..runner import submission

    if not any(given.values()):
        raise InputError(f"Give at least one experiment: {', '.join(f'--{name}' for name in given)}.")
    predictions = []
    for name, paths in given.items():
        task = by_name(name)
        found: dict[str, tuple[Path, Predictions]] = {}
        for path in paths:
            each = submission.collect(task, path, corpora)
            if each.fold in found:
                raise InputError(
                    f"--{name} {found[each.fold][0]} {path}: both are {each.fold}. Expected one experiment per fold."
                )
            found[each.fold] = path, each
        predictions += [found[fold][1] for fold in task.folds or ("",) if fold in found]
    return predictions


def table(predictions: Sequence[Predictions]) -> Iterator[str]:
    """A line per experiment, and the mean over folds of each task whose folds are all there."""
    yield from _rows(
        ("task", "upstream", "utterances", "accuracy", "in predict.zip"),
        *(
            (_name(each), each.upstream, str(each.utterances), _percent(each.accuracy), each.member)
            for each in predictions
        ),
        *(row for task, given in _by_task(predictions).items() for row in _mean_over_folds(task, given)),
    )


def verdict(predictions: Sequence[Predictions]) -> Iterator[str]:
    """What the leaderboard will score, and what it will not."""
    given = _by_task(predictions)
    scored = [task.column for task, found in given.items() if not _missing_folds(task, found)]
    yield f"will be scored: {', '.join(scored) or 'nothing'}"
    for task, found in given.items():
        missing = _missing_folds(task, found)
        if missing:
            yield (
                f"{task.column} will not be scored: it needs {len(task.folds)} folds, {', '.join(missing)} missing"
            )
    absent = [task.column for task in on_the_leaderboard() if task not in given]
    if absent:
        yield f"not given: {', '.join(absent)}"
    for each in predictions:
        expected = each.task.official[each.fold]
        if each.utterances != expected:
            yield (
                f"{_name(each)}: another corpus than the leaderboard's, "
                f"{each.utterances} test utterances instead of {expected}"
            )


def _by_task(predictions: Sequence[Predictions]) -> dict[Task, list[Predictions]]:
    found: dict[Task, list[Predictions]] = {}
    for each in predictions:
        found.setdefault(each.task, []).append(each)
    return found


def _missing_folds(task: Task, given: Sequence[Predictions]) -> list[str]:
    return [fold for fold in task.folds if fold not in {each.fold for each in given}]


def _mean_over_folds(task: Task, given: Sequence[Predictions]) -> list[tuple[str, ...]]:
    if not task.folds or _missing_folds(task, given):
        return []
    mean = sum(each.accuracy for each in given) / len(given)
    utterances = str(sum(each.utterances for each in given))
    return [(task.column, f"mean of {len(given)} folds", utterances, _percent(mean), "")]


def _name(predictions: Predictions) -> str:
    return f"{predictions.task.column} {predictions.fold}".strip()


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _rows(*rows: tuple[str, ...]) -> Iterator[str]:
    """Columns as wide as needed; the numbers' to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = (
            cell.rjust(width) if index in (2, 3) else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        )
        yield "  ".join(cells).rstrip()
