"""`vqpool store info`, `vqpool store verify`, `vqpool store add-pooling`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_option

if TYPE_CHECKING:
    from ..store import Store

HELP = (
    "Say what a store of features holds, check its files against their hashes, or add the vectors of more "
    "poolings, also of those that need training statistics (VQ-GP, VQ-BP, VQ-SIF)."
)
EXAMPLE = "vqpool store add-pooling feats/ VQ-BP VQ-GP"
WHEN_STOPPED = "what is done is kept; the same command continues"

ACTIONS = {
    "info": "say what the store holds",
    "verify": "check the files against their hashes",
    "add-pooling": "add vectors of more poolings. If the upstream has one layer, stored frames are used; otherwise the "
    "upstream runs again. After a kill or an interruption the same command continues",
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


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where `verify` finds damage."""
    from ..store import Store
    from ..store.verify import damaged, files, info

    store = Store.open(args.store)
    if args.action == "add-pooling":
        return _add(store, args.names, args.option)
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
