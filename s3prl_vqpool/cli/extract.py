"""`vqpool extract`: the features of a downstream's corpus, once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .options import (
    add_checkpoint,
    add_corpora,
    add_device,
    add_dtype,
    add_model_config,
    add_precision,
    add_upstream,
)

HELP = (
    "Run the upstream once over every utterance of a downstream's corpus, and keep the codes and the pooled vectors of "
    "every layer. After a kill or an interruption the same command continues. Several processes: torchrun "
    "--nproc_per_node N -m s3prl_vqpool extract ..."
)
EXAMPLE = "vqpool extract -u wav2vec2_vq -d vqpool_ks --store feats/ --poolings VQ-LP mean"
WHEN_STOPPED = "what is done is kept; the same command continues"

POOLINGS = ("VQ-LP", "mean", "AP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_upstream(parser, "an upstream with codes: vqpool list upstreams")
    add_checkpoint(parser)
    add_model_config(parser)
    parser.add_argument(
        "-d",
        "--downstream",
        required=True,
        help="the downstream whose corpus is read: vqpool list downstreams",
    )
    parser.add_argument("-c", "--config", help="the downstream's config (default: its own)")
    parser.add_argument(
        "-o",
        "--override",
        metavar="OVERRIDE",
        help="changes the config, like run_downstream.py's -o; config.* only",
    )
    add_corpora(parser)
    parser.add_argument("--store", type=Path, required=True, metavar="FOLDER", help="folder for the features")
    parser.add_argument(
        "--poolings",
        nargs="+",
        default=POOLINGS,
        metavar="NAME",
        help=f"poolings to store, such as VQ-LP or 'VQ-*+std' (default: {' '.join(POOLINGS)})",
    )
    parser.add_argument("--frames", action="store_true", help="also keep the frames, averaged over layers")
    add_device(parser)
    add_dtype(parser)
    add_precision(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from ..codes.entries import check_given
    from ..codes.precision import require
    from ..errors import unknown_name
    from ..runner import named, plugin
    from ..runner.config import read
    from ..store import manifest, rows
    from ..store.extract import extract
    from . import devices

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    entry = plugin.entry_of(args.upstream)
    if args.downstream not in plugin.downstreams():
        raise unknown_name("downstream", args.downstream, plugin.downstreams())
    check_given(entry, ckpt=args.checkpoint, model_config=args.model_config)
    poolings = manifest.checked(args.poolings)
    if rank == 0 and not args.frames:
        _say_rows(poolings)
    override = named.override(args.downstream, args.config, args.override, args.corpora)
    config = read(args.downstream, args.config, override)
    device = devices.chosen(args.device)
    listing = rows.listing(args.downstream, config)
    upstream = entry(ckpt=args.checkpoint, model_config=args.model_config, refresh=False)
    upstream.eval().to(device)
    require(args.precision, upstream, args.upstream, device)
    with torch.no_grad():
        states = upstream([torch.zeros(16000, device=device)])["hidden_states"]
    options = {
        "upstream": args.upstream,
        "ckpt": args.checkpoint,
        "upstream_model_config": args.model_config,
        "downstream": args.downstream,
        "datarc": config["downstream_expert"]["datarc"],
        "poolings": poolings,
        "frames": args.frames,
        "dtype": args.dtype,
        "precision": args.precision,
    }
    wanted = manifest.describe(options, upstream, states, listing, device)
    if extract(upstream, listing, wanted, args.store, device, rank, world):
        print(f"{args.store} is complete: vqpool store info {args.store}")
    return 0


def _say_rows(poolings: Sequence[str]) -> None:
    """Say which rows of a table these poolings give, and how to get the others."""
    from ..tables.table1 import rows_without_frames, unsupervised

    given, every = rows_without_frames(poolings), unsupervised()
    print(
        f"without --frames, this store gives {len(given)} of the {len(every)} rows of vqpool benchmark nearest "
        f"({' '.join(given) or 'none'}): add --frames for all of them",
        file=sys.stderr,
    )
