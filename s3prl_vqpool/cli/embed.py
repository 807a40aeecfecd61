"""`vqpool embed`: pooled vectors of audio without a corpus."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_checkpoint,
    add_device,
    add_model_config,
    add_option,
    add_overwrite,
    add_precision,
    add_upstream,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..corpora.table.clips import Clip
    from ..store.embed import Work
    from ..store.group import Group

HELP = (
    "Write a vector for each piece of audio, with the numbers of Embedder and of a store. The name of the file "
    "decides its format: .npz (arrays ids and vectors), .npy (ids beside it in .ids.txt), .parquet (columns id and "
    "vector) or .ark (Kaldi's, with .scp). What is done is kept in OUT.parts; after a kill the same command "
    "continues, to the same bytes. Several processes share the work, to the same bytes: torchrun --nproc_per_node N "
    "-m s3prl_vqpool embed ..."
)
EXAMPLE = (
    "vqpool embed speech/ -u wav2vec2_vq --pooling VQ-LP --output vectors.npz\n"
    "  vqpool embed data/train --ivector-period 10 --output exp/ivectors_train\n"
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
    parser.add_argument(
        "--ivector-period",
        type=int,
        metavar="N",
        help="write a folder for Kaldi's --online-ivector-dir: of each utterance a vector every N frames of 10 ms, "
        "each of all frames up to there, the last one of all frames (Kaldi's scripts take 10)",
    )
    parser.add_argument("--output", type=Path, metavar="OUT", required=True, help="file, or folder, to write")
    add_overwrite(parser)
    add_device(parser)
    add_precision(parser)


def run(args: argparse.Namespace) -> int:
    from .. import files
    from ..corpora.table.clips import clips
    from ..store import embed, ivectors, vectors
    from ..store.group import Group

    made = vectors.files(args.output) if args.ivector_period is None else ivectors.files(args.output)
    _require_folder(args)
    found = clips(args.audio)
    vectors.check_ids(made[0], [clip.id for clip in found])
    folder = made[0].with_name(f"{made[0].name}.parts")
    group = Group.of_torchrun()
    if group.rank > 0:
        embed.share(_work(args, found, folder), group)
        return 0
    with files.asked_for(*made, overwrite=args.overwrite):
        with files.alone(folder):
            work = _work(args, found, folder)
            said = _write(work, group, args)
            embed.remove_parts(folder)
        with suppress(OSError):  # it was there before, and is empty now
            folder.rmdir()
    print(
        f"wrote {', '.join(map(str, made[:-1]))}{' and ' * (len(made) > 1)}{made[-1]}: {said}",
        file=sys.stderr,
    )
    return 0


def _require_folder(args: argparse.Namespace) -> None:
    from ..errors import InputError

    if args.ivector_period is None and not args.output.parent.is_dir():
        raise InputError(f"{args.output}: name a file in a folder that exists.")


def _work(args: argparse.Namespace, found: Sequence[Clip], folder: Path) -> Work:
    from ..store import embed, ivectors

    embedder, options = _embedder(args)
    every = None
    if args.ivector_period is not None:
        every = ivectors.every(args.ivector_period, embedder.upstream.get_downsample_rates("hidden_states"))
    return embed.Work(embedder, options, found, folder, every)


def _write(work: Work, group: Group, args: argparse.Namespace) -> str:
    """Compute, and write the output; what it holds, in words."""
    from ..store import embed, ivectors, vectors

    if args.ivector_period is None:
        stacked = embed.embed(work, group)
        vectors.write(args.output, [clip.id for clip in work.clips], stacked.numpy())
        return f"{len(stacked)} vectors of {stacked.size(1)}"
    embed.compute(work, group)
    matrices = ((name, rows.numpy()) for name, rows in embed.matrices(work))
    ivectors.write(args.output, args.ivector_period, matrices)
    return f"{len(work.clips)} utterances, a vector every {args.ivector_period / 100:g} s"


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
        precision=args.precision,
        **values,
    )
    options = {
        "pooling": embedder.method.name,
        "options": values,
        "layer": args.layer,
        "precision": args.precision,
        "statistics": files.sha256(args.statistics) if args.statistics else None,
    }
    return embedder, options
