"""`vqpool benchmark`: the tables of the paper."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import InputError

HELP = "Make a table of the paper from stores of features (vqpool extract)."
EXAMPLE = "vqpool benchmark nearest --store feats_ks feats_sid feats_ic feats_er --output results"
NEAREST = (
    "Table 1: a test utterance takes the label of its nearest training utterance by angle; test accuracy of every "
    "pooling that is not learned. Training statistics are those of the training split; VQ-SIF's a is chosen on dev; "
    "ER is the mean over its five folds. Writes nearest.csv, nearest.md and nearest.json."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tables = parser.add_subparsers(dest="table", required=True, metavar="TABLE")
    nearest = tables.add_parser(
        "nearest",
        help="Table 1, unsupervised: label of the nearest neighbour",
        description=NEAREST,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    nearest.add_argument(
        "--store", type=Path, nargs="+", required=True, metavar="FOLDER", help="one per task, of one upstream"
    )
    nearest.add_argument(
        "--poolings",
        nargs="+",
        metavar="NAME",
        help="default: all that are not learned and that the stores allow",
    )
    nearest.add_argument(
        "--reference", choices=("paper",), help="add the published figures, which are of other corpora"
    )
    nearest.add_argument(
        "--layers",
        action="store_true",
        help="also every single layer, of the poolings whose vectors are stored",
    )
    nearest.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the table goes")
    nearest.set_defaults(make=_nearest)


def run(args: argparse.Namespace) -> int:
    return args.make(args)


def _nearest(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..benchmark import stores, table1
    from ..store import Store

    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"{args.output}: is a file. Expected a folder for the tables.")
    tasks = stores.tasks({path: Store.open(path) for path in args.store})
    names = table1.choose(args.poolings, tasks)
    without = [name for name in table1.unsupervised() if name not in names] if args.poolings is None else []
    if without:
        print(
            f"left out, as they need frames (vqpool extract --frames): {', '.join(without)}", file=sys.stderr
        )
    if args.layers and not table1.layered(tasks, names):
        raise InputError(
            "--layers: of none of the poolings do all stores have vectors: vqpool extract --poolings."
        )
    total = table1.steps(tasks, names, args.layers)
    with tqdm(total=total, desc="nearest", unit="score", leave=False, disable=None) as bar:

        def tick(done: str) -> None:
            bar.set_postfix_str(done, refresh=False)
            bar.update()

        table = table1.make(tasks, names, args.layers, args.reference == "paper", tick)
    table.show()
    print(f"wrote {', '.join(map(str, table.write(args.output, 'nearest')))}")
    return 0
