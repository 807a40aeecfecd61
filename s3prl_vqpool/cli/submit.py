"""`vqpool submit`: predict.zip for the SUPERB leaderboard."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..corpora.iemocap import FOLDS
from ..errors import InputError
from ..files import asked_for
from ..runner import submission
from ..runner.submission import Predictions
from .options import add_overwrite

HELP = (
    "Check the test predictions of experiments and zip them for the SUPERB leaderboard. Only predictions that "
    "run_downstream.py -m evaluate -e EXPDIR/dev-best.ckpt wrote are accepted."
)
EXAMPLE = "vqpool submit --ks exp1 --er fold1 fold2 fold3 fold4 fold5 --output submission/"

#: Test utterances that the leaderboard has of each task, of ER by fold.
UTTERANCES = {"ks": (3081,), "sid": (8251,), "ic": (3793,), "er": (1085, 1023, 1151, 1031, 1241)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for task in ("ks", "sid", "ic"):
        parser.add_argument(f"--{task}", type=Path, metavar="EXPDIR", help=f"experiment of -d vqpool_{task}")
    parser.add_argument(
        "--er", type=Path, nargs="+", metavar="EXPDIR", help="experiments of -d vqpool_er, one for each fold"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for predict.zip")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    found = collect({task: getattr(args, task) for task in submission.TASKS})
    with asked_for(args.output / "predict.zip", overwrite=args.overwrite):
        written = submission.write_zip(args.output, found)
    for line in [*table(found), "", *verdict(found)]:
        print(line)
    print(f"wrote {written}")
    return 0


def collect(given: dict[str, Path | list[Path] | None]) -> list[Predictions]:
    """The predictions of all experiments given.

    Raises:
        InputError: none given, two of the same fold, or any that `submission.collect` refuses.
    """
    folders = {task: paths if isinstance(paths, list) else [paths] for task, paths in given.items() if paths}
    if not folders:
        raise InputError(f"Give at least one experiment: {', '.join(f'--{task}' for task in given)}.")
    found: dict[str, Path] = {}
    predictions = []
    for task, paths in folders.items():
        for path in paths:
            each = submission.collect(task, path)
            if each.member in found:
                raise InputError(
                    f"--er {found[each.member]} {path}: both are {each.fold}. Expected one experiment per fold."
                )
            found[each.member] = path
            predictions.append(each)
    return sorted(predictions, key=lambda each: (list(given).index(each.task), each.fold))


def table(predictions: Sequence[Predictions]) -> Iterator[str]:
    """A line per experiment, and ER's mean over its folds where all are there."""
    yield from _rows(
        ("task", "upstream", "utterances", "accuracy", "in predict.zip"),
        *(
            (_name(each), each.upstream, str(each.utterances), _percent(each.accuracy), each.member)
            for each in predictions
        ),
        *_mean_over_folds([each for each in predictions if each.task == "er"]),
    )


def verdict(predictions: Sequence[Predictions]) -> Iterator[str]:
    """What the leaderboard will score, and what it will not."""
    folds = {each.fold for each in predictions if each.task == "er"}
    missing = [fold for fold in FOLDS if fold not in folds]
    given = dict.fromkeys(each.task for each in predictions)
    scored = [task.upper() for task in given if task != "er" or not missing]
    yield f"will be scored: {', '.join(scored) or 'nothing'}"
    if folds and missing:
        yield f"ER will not be scored: it needs five folds, {', '.join(missing)} missing"
    absent = [task.upper() for task in submission.TASKS if task not in given]
    if absent:
        yield f"not given: {', '.join(absent)}"
    for each in predictions:
        expected = UTTERANCES[each.task][FOLDS.index(each.fold) if each.fold else 0]
        if each.utterances != expected:
            yield (
                f"{_name(each)}: another corpus than the leaderboard's, "
                f"{each.utterances} test utterances instead of {expected}"
            )


def _mean_over_folds(folds: Sequence[Predictions]) -> list[tuple[str, ...]]:
    if len(folds) < len(FOLDS):
        return []
    mean = sum(each.accuracy for each in folds) / len(folds)
    return [("ER", "mean of five folds", str(sum(each.utterances for each in folds)), _percent(mean), "")]


def _name(predictions: Predictions) -> str:
    return f"{predictions.task.upper()} {predictions.fold}".strip()


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
