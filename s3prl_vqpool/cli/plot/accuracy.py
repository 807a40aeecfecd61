"""`vqpool plot accuracy`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw the accuracy of every pooling from tables of vqpool benchmark, a panel for each task: dots with 95 % "
    "intervals where the table has them. Published figures are drawn beside ours if the table has them."
)
EXAMPLE = "vqpool plot accuracy results/nearest.json --output accuracy.pdf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tables", type=Path, nargs="+", metavar="TABLE.json", help="tables, such as one for each upstream"
    )


def draw(args: argparse.Namespace) -> Axes:
    from pandas import concat

    from ... import report
    from ...report import sources

    rows = concat([sources.table(path) for path in args.tables])
    return report.accuracy(rows[rows["layer"] == "mean"])[0]
