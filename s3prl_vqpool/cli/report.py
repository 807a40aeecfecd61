"""`vqpool report`: one page with tables, figures and utterances, which opens offline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .options import add_overwrite

HELP = (
    "Write one HTML file with what lies below folders: tables of vqpool benchmark that sort, figures (.svg), "
    "accuracies of experiments, and of stores t-SNE and utterances to look at and to hear. It opens offline and loads "
    "nothing."
)
EXAMPLE = "vqpool report feats_ks results --output report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="stores, tables, experiments, or above them"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the page, a .html file")
    add_overwrite(parser)
    parser.add_argument(
        "--utterances",
        type=int,
        default=60,
        metavar="N",
        help="utterances that are shown in full, shared among the stores (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice of utterances and t-SNE (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from ..errors import InputError
    from ..files import asked_for
    from ..report import page

    if args.output.suffix != ".html":
        raise InputError(f"{args.output}: name a .html file.")
    if args.utterances < 1 or not 0 <= args.seed < 2**32:
        raise InputError(
            f"--utterances {args.utterances} --seed {args.seed}: expected at least 1, and 0 to 2**32 - 1."
        )
    with asked_for(args.output, overwrite=args.overwrite):
        for line in page.write(args.folders, args.output, args.utterances, args.seed):
            print(line, file=sys.stderr)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB): open it in a browser")
    return 0
