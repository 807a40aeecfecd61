"""`vqpool store info`, `verify`, `add-pooling` and `export`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_option, add_overwrite

if TYPE_CHECKING:
    from ..store import Store

HELP = (
    "Say what a store of features holds, check its files against their hashes, add the vectors of more "
    "poolings, also of those that need training statistics (VQ-GP, VQ-BP, VQ-SIF), or write vectors to a file."
)
EXAMPLE = "vqpool store add-pooling feats/ VQ-BP VQ-GP"
WHEN_STOPPED = "what is done is kept; the same command continues"

ACTIONS = {
    "info": "say what the store holds",
    "verify": "check the files against their hashes",
    "add-pooling": "add vectors of more poolings. If the upstream has one layer, stored frames are used; otherwise the "
    "upstream runs again. After a kill or an interruption the same command continues",
    "export": "write the vectors of one pooling with their ids to a .npz, .npy, .parquet or .ark file, as vqpool embed "
    "does",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("store", type=Path, metavar="FOLDER", help="a store that vqpool extract wrote")
        if name == "add-pooling":
            action.add_argument(
                "names", nargs="+", metavar="NAME", help="poolings that have a weight for each frame"
            )
            add_option(action)
        if name == "export":
            _add_export(action)


def _add_export(action: argparse.ArgumentParser) -> None:
    action.add_argument("--pooling", required=True, metavar="NAME", help="a pooling of the store")
    action.add_argument(
        "--layer", type=int, help="hidden state that was pooled; 0 is the first (default: mean of all)"
    )
    action.add_argument("--split", help="train, dev or test (default: all utterances)")
    action.add_argument("--fold", help="the fold that the split is of, where the task has folds")
    action.add_argument("--output", type=Path, required=True, metavar="OUT", help="file to write")
    add_overwrite(action)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where `verify` finds damage."""
    from ..store import Store
    from ..store.verify import damaged, files, info

    store = Store.open(args.store)
    if args.action == "add-pooling":
        return _add(store, args.names, args.option)
    if args.action == "export":
        return _export(store, args)
    if args.action == "info":
        for line in info(store):
            print(line)
        return 0
    lines = list(damaged(store))
    for line in lines:
        print(line)
    count = files(store)
    print(
        f"{len(lines)} of {count} files damaged" if lines else f"all {count} files are as they were written"
    )
    return int(bool(lines))


def _export(store: Store, args: argparse.Namespace) -> int:
    from ..files import asked_for
    from ..store import vectors
    from ..store.export import export

    made = vectors.files(args.output)
    ids, exported = export(store, args.pooling, args.layer, args.split, args.fold)
    vectors.check_ids(args.output, ids)
    with asked_for(*made, overwrite=args.overwrite):
        vectors.write(args.output, ids, exported.numpy())
    print(f"wrote {' and '.join(map(str, made))}: {len(ids)} vectors of {exported.size(1)}", file=sys.stderr)
    return 0


def _add(store: Store, names: list[str], given: list[str]) -> int:
    from ..pooling.options import from_words
    from ..store import manifest
    from ..store.add import add

    names = manifest.checked(names, statistics=True)
    options = from_words(given)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if add(store, names, options, rank, world):
        print(f"{store.folder} has {', '.join(names)}: vqpool store info {store.folder}")
    return 0
