"""`vqpool plot confusion`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw a confusion matrix from the predictions that vqpool benchmark wrote: row by row, the share of a class's test "
    "utterances that got each prediction. Folds and seeds are counted together."
)
EXAMPLE = "vqpool plot confusion results/nearest.predictions.csv --task KS --poolings AP VQ-LP --output confusion.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS.csv", help="a table's predictions")
    parser.add_argument("--task", metavar="TASK", help="the table's column (default: the only one)")
    parser.add_argument(
        "--poolings",
        nargs="+",
        metavar="NAME",
        help="rows of the table, a panel for each (default: the only one)",
    )
    parser.add_argument(
        "--slot", metavar="NAME", help="a slot of the label, such as IC's action (default: the whole label)"
    )


def draw(args: argparse.Namespace) -> Axes:
    from ...report import sources
    from ...report.confusion import side_by_side

    answers = sources.answers(args.predictions, args.task, args.poolings, args.slot)
    return side_by_side(answers)[0]
