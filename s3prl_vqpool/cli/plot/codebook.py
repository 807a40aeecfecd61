"""`vqpool plot codebook`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw how often each entry of each codebook is used, the most frequent first,"
    "with the perplexity of each codebook, "
    "over all utterances of a store, or over the training set of statistics."
)
EXAMPLE = "vqpool plot codebook --store feats_ks --output codebook.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store", type=Path, metavar="FOLDER", help="a store that vqpool extract wrote")
    source.add_argument(
        "--statistics",
        type=Path,
        metavar="FILE",
        help="counts of a training set: pooling_statistics.safetensors of an experiment or of a store",
    )


def draw(args: argparse.Namespace) -> Axes:
    from ... import report
    from ...report import sources

    if args.store:
        return report.codebook(sources.entries_of_store(args.store))
    return report.codebook(sources.entries_of_statistics(args.statistics))
