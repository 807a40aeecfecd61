"""`vqpool plot embedding`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import add_option

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = (
    "Draw a store's utterances by t-SNE (scikit-learn), a panel for each pooling, coloured by class. Vectors are of "
    "the mean over layers. Statistics come from the training split; of ER, the first fold's."
)
EXAMPLE = "vqpool plot embedding --store feats_ks --poolings AP VQ-LP --classes 8 --output embedding.pdf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, required=True, metavar="FOLDER", help="a store that vqpool extract wrote"
    )
    parser.add_argument(
        "--poolings",
        nargs="+",
        default=["AP", "VQ-LP"],
        metavar="NAME",
        help="poolings that are not learned, a panel for each (default: AP VQ-LP)",
    )
    add_option(parser)
    parser.add_argument(
        "--split",
        choices=("train", "dev", "test"),
        default="test",
        help="whose utterances are drawn (default: %(default)s)",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=8,
        metavar="N",
        help="draw the N most frequent classes of the split, at least 2 (default: %(default)s)",
    )
    parser.add_argument(
        "--perplexity",
        type=float,
        metavar="P",
        help="of t-SNE (default: 30, or a third of the utterances where those are few)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE (default: %(default)s)")


def draw(args: argparse.Namespace) -> Axes:
    from ... import report
    from ...errors import InputError
    from ...pooling.options import from_words
    from ...report import sources
    from ...runner.config import positive, seeded

    if args.classes < 2:
        raise InputError(f"--classes {args.classes}: expected at least 2.")
    seed = seeded("--seed", args.seed)
    perplexity = None if args.perplexity is None else positive("--perplexity", args.perplexity)
    given = from_words(args.option)
    found = sources.utterance_vectors(args.store, args.poolings, args.split, args.classes, given)
    return report.embedding(found.by_pooling, found.labels, perplexity, seed)[0]
