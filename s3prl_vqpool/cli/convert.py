"""`vqpool convert`: a wav2vec checkpoint of fairseq as S3PRL's converted format, or as safetensors and JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..files import asked_for
from .options import add_overwrite

HELP = (
    "Convert a wav2vec 2.0 or vq-wav2vec checkpoint without fairseq. The name of OUT decides the format: .pt or "
    ".ckpt for S3PRL's converted format, or .safetensors, with a JSON file of the configuration beside it. All of "
    "them work as -k."
)
EXAMPLE = "vqpool convert wav2vec_small.pt --output wav2vec_small.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", type=Path, metavar="IN", help="a file of fairseq, or one that S3PRL converted"
    )
    parser.add_argument(
        "--output", type=Path, metavar="OUT", required=True, help="file to write: .pt, .ckpt or .safetensors"
    )
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    from ..checkpoints import fairseq

    if args.output.suffix not in (".pt", ".ckpt", ".safetensors"):
        raise InputError(f"{args.output}: name it .safetensors, or .pt or .ckpt for S3PRL's format.")
    if not args.output.parent.is_dir():
        raise InputError(f"{args.output}: name a file in a folder that exists.")
    if args.input.exists() and args.output.exists() and args.output.samefile(args.input):
        raise InputError(f"{args.output}: is the input; name another file.")
    checkpoint = fairseq.load(args.input)
    beside = [args.output.with_suffix(".json")] if args.output.suffix == ".safetensors" else []
    with asked_for(args.output, *beside, overwrite=args.overwrite):
        written = fairseq.save(checkpoint, args.output)
    numbers = sum(tensor.numel() for tensor in checkpoint.model_weight.values())
    print(f"wrote {' and '.join(map(str, written))}: {numbers:,} numbers")
    return 0
