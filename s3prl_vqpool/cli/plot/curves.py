"""`vqpool plot curves`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw learning curves: accuracy on dev and train over steps, of every experiment below the folders. Colours tell "
    "learning rates apart and each pooling has a panel, or with --by pooling the other way round."
)
EXAMPLE = "vqpool plot curves exp/ --by rate --output curves.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="experiments, or vqpool train's -p"
    )
    parser.add_argument(
        "--by",
        choices=("rate", "pooling"),
        default="rate",
        help="what colours tell apart (default: %(default)s)",
    )


def draw(args: argparse.Namespace) -> Axes:
    from ... import report
    from ...report import sources

    return report.curves(sources.log(args.folders), args.by)[0]
