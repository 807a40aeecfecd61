"""`vqpool plot layers`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw the accuracy of every layer from a table that vqpool benchmark ... --layers wrote, a panel for each task. "
    "To the right stand the mean over layers and learned weights over layers."
)
EXAMPLE = "vqpool plot layers results/supervised_paper.json --output layers.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE.json", help="a table with single layers")


def draw(args: argparse.Namespace) -> Axes:
    from ... import report
    from ...errors import InputError
    from ...report import sources

    try:
        return report.layers(sources.table(args.table))[0]
    except InputError as error:
        named = str(error).startswith(str(args.table))
        raise error if named else InputError(f"{args.table}: {error}") from error
