"""`vqpool train`: heads on a store's pooled vectors, all learning rates and poolings at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..trainer.winner import Head

HELP = (
    "Train SUPERB's head on stored vectors, for every pooling and learning rate at once. EXP/POOLING/lr=RATE is "
    "an experiment of S3PRL's runner: run_downstream.py evaluates its dev-best.ckpt from audio, and can resume "
    "it. EXP/heads.csv has the figures of all heads of the command, and EXP/best leads to the one that is best on dev. "
    "After a kill or an interruption the same command continues."
)
EXAMPLE = (
    "vqpool train -d vqpool_ks --store feats/ --poolings VQ-LP mean --lr 1e-1 1e-2 1e-3 1e-4 1e-5 -p exp/"
)
WHEN_STOPPED = "what is done is kept; the same command continues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", "--downstream", required=True, help="the downstream that the store was extracted for"
    )
    parser.add_argument(
        "--store", type=Path, required=True, metavar="FOLDER", help="a store that vqpool extract wrote"
    )
    parser.add_argument(
        "--poolings", nargs="+", metavar="NAME", help="poolings to train (default: the config's)"
    )
    parser.add_argument(
        "--lr", nargs="+", type=float, metavar="RATE", help="learning rates (default: the config's)"
    )
    parser.add_argument(
        "-p", "--expdir", type=Path, required=True, metavar="EXP", help="folder for the experiments"
    )
    parser.add_argument(
        "-c", "--config", help="the downstream's config (default: its own, with the store's corpus)"
    )
    parser.add_argument(
        "-o",
        "--override",
        metavar="OVERRIDE",
        help="changes the config, like run_downstream.py's -o; config.* only",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1337,
        help="seed of the initial parameters and of the order (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from ..errors import InputError, unknown_name
    from ..runner import plugin
    from ..runner.config import modelrc_of, positive, rate_of, read, seeded
    from ..store import Store, manifest
    from ..trainer import train, winner

    plugin.register()
    if args.downstream not in plugin.downstreams():
        raise unknown_name("downstream", args.downstream, plugin.downstreams())
    store = Store.open(args.store)
    if args.downstream != store.manifest["downstream"]:
        raise InputError(
            f"-d {args.downstream}: {args.store} was extracted for {store.manifest['downstream']}."
        )
    config = read(args.downstream, args.config, args.override, store.manifest["datarc"])
    wanted = args.poolings or [str(modelrc_of(config)["pooling"])]
    poolings = manifest.checked(wanted, statistics=True, offered=store.poolings)
    rates = list(dict.fromkeys(positive("--lr", rate) for rate in args.lr or ())) or [rate_of(config)]
    seed = seeded("--seed", args.seed)
    winner.require_place(args.expdir)
    heads = winner.heads(train(store, args.downstream, config, poolings, rates, args.expdir, seed))
    winner.write(heads, args.expdir)
    for head in heads:
        print(_summary(head))
    best = winner.winner(heads)
    if best:
        print(f"best on dev: {best.pooling} lr={best.rate}, {args.expdir / winner.LINK}")
    print(f"all heads: {args.expdir / winner.TABLE}")
    return 0


def _summary(head: Head) -> str:
    """The best score on dev, the one on test at that step, and the checkpoint."""
    named = f"{head.pooling:20} lr={head.rate:8}"
    if not head.dev > 0:
        return f"{named} dev never evaluated, or 0"
    return f"{named} dev {head.dev:7.2%}  test {head.test:7.2%}  step {head.step:>7}  {head.checkpoint}"
