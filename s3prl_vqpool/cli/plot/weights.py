"""`vqpool plot weights`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw the weights that experiments have learned for the upstream's layers (the softmax of S3PRL's Featurizer), "
    "several beside each other. A dotted line shows equal weights."
)
EXAMPLE = "vqpool plot weights -e exp/VQ-LP/lr=1e-2/dev-best.ckpt exp/mean/lr=1e-2/dev-best.ckpt --output weights.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-e",
        "--experiment",
        type=Path,
        nargs="+",
        required=True,
        metavar="CKPT",
        help="checkpoints of run_downstream.py or vqpool train",
    )


def draw(args: argparse.Namespace) -> Axes:
    from ... import report
    from ...report import sources

    return report.layer_weights(sources.layer_weights(args.experiment))
