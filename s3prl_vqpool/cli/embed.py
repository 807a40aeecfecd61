"""`vqpool embed`: pooled vectors of audio without a corpus."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from .options import add_checkpoint, add_device, add_model_config, add_option, add_overwrite, add_upstream

HELP = (
    "Write a vector for each piece of audio, with the numbers of Embedder and of a store. The name of the file "
    "decides its format: .npz (arrays ids and vectors), .npy (ids beside it in .ids.txt), .parquet (columns id and "
    "vector) or .ark (Kaldi's, with .scp). What is done is kept in OUT.parts; after a kill the same command "
    "continues, to the same bytes. Several processes share the work, to the same bytes: torchrun --nproc_per_node N "
    "-m s3prl_vqpool embed ..."
)
EXAMPLE = (
    "vqpool embed speech/ -u wav2vec2_vq --pooling VQ-LP --output vectors.npz\n"
    "  torchrun --nproc_per_node 2 -m s3prl_vqpool embed speech/ --output vectors.npz"
)
WHEN_STOPPED = "what is done is kept; the same command continues"
GIVEN = (
    "audio files, folders of audio, Kaldi data directories, or lists: .txt .lst .scp (lines PATH or ID PATH), or "
    "tables .csv .tsv .jsonl .parquet (columns path and, where there, id, start, end)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help=GIVEN)
    add_upstream(parser, "an upstream with codes: vqpool list upstreams", default="wav2vec2_vq")
    add_checkpoint(parser)
    add_model_config(parser)
    parser.add_argument(
        "--pooling",
        default="VQ-LP",
        metavar="NAME",
        help="pooling, such as VQ-LP or 'VQ-LP+std' (default: %(default)s)",
    )
    parser.add_argument(
        "--statistics",
        type=Path,
        metavar="FILE",
        help="training statistics of a pooling that needs them: pooling_statistics.safetensors of an experiment or "
        "a store",
    )
    add_option(parser)
    parser.add_argument(
        "--layer", type=int, help="hidden state to pool; 0 is the first (default: mean of all)"
    )
    parser.add_argument("--output", type=Path, metavar="OUT", required=True, help="file to write")
    add_overwrite(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    from .. import files
    from ..corpora.table.clips import clips
    from ..errors import InputError
    from ..store import embed, vectors
    from ..store.group import Group

    made = vectors.files(args.output)
    if not args.output.parent.is_dir():
        raise InputError(f"{args.output}: name a file in a folder that exists.")
    found = clips(args.audio)
    ids = [clip.id for clip in found]
    vectors.check_ids(args.output, ids)
    work = args.output.with_name(f"{args.output.name}.parts")
    group = Group.of_torchrun()
    if group.rank > 0:
        embed.share(embed.Work(*_embedder(args), found, work), group)
        return 0
    with files.asked_for(*made, overwrite=args.overwrite):
        with files.alone(work):
            stacked = embed.embed(embed.Work(*_embedder(args), found, work), group)
            vectors.write(args.output, ids, stacked.numpy())
            embed.remove_parts(work)
        with suppress(OSError):  # it was there before, and is empty now
            work.rmdir()
    print(f"wrote {' and '.join(map(str, made))}: {len(ids)} vectors of {stacked.size(1)}", file=sys.stderr)
    return 0


def _embedder(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The `Embedder`, and what determines its numbers beside the upstream."""
    from .. import files, pooling
    from ..pooling.options import from_words
    from ..store.embedder import Embedder
    from . import devices

    values = pooling.method(args.pooling).read(from_words(args.option))
    embedder = Embedder(
        args.upstream,
        ckpt=args.checkpoint,
        model_config=args.model_config,
        pooling=args.pooling,
        statistics=args.statistics,
        layer=args.layer,
        device=devices.chosen(args.device),
        **values,
    )
    options = {
        "pooling": embedder.method.name,
        "options": values,
        "layer": args.layer,
        "statistics": files.sha256(args.statistics) if args.statistics else None,
    }
    return embedder, options
