"""`vqpool store info` and `vqpool store verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = (
    "Say what a store of features holds, or check its bytes against the hashes that were written with them."
)
EXAMPLE = "vqpool store verify feats/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("info", "verify"))
    parser.add_argument("store", type=Path, metavar="FOLDER", help="what vqpool extract --store wrote")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where `verify` finds damage."""
    from ..store import Store
    from ..store.verify import damaged, info

    store = Store.open(args.store)
    if args.action == "info":
        for line in info(store):
            print(line)
        return 0
    lines = list(damaged(args.store))
    for line in lines:
        print(line)
    count = store.manifest["shards"]
    print(
        f"{len(lines)} of {count} shards damaged" if lines else f"all {count} shards are as they were written"
    )
    return int(bool(lines))
