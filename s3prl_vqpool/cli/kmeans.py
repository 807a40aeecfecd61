"""`vqpool kmeans`: fit codebooks on an upstream without a quantizer, for -u kmeans_vq."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_checkpoint, add_device, add_overwrite, add_upstream

if TYPE_CHECKING:
    from ..codes.kmeans import KMeansCodebooks

HELP = (
    "Fit k-means codebooks on hidden states of an upstream of S3PRL. Writes OUT.yaml and OUT.safetensors. Use "
    "them with run_downstream.py -u kmeans_vq -g OUT.yaml."
)
EXAMPLE = (
    "vqpool kmeans LibriSpeech/train-clean-100 --output hubert.yaml -u hubert -l 9 --entries 500 --groups 2"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("speech", type=Path, help="folder of WAV, FLAC or Ogg files, searched recursively")
    parser.add_argument("--output", type=Path, metavar="OUT", required=True, help="YAML file to write")
    add_overwrite(parser)
    add_upstream(parser, "an upstream of S3PRL, as run_downstream.py's -u")
    add_checkpoint(parser)
    parser.add_argument(
        "-l", "--layers", type=int, nargs="+", required=True, help="hidden states to fit on; 0 is the first"
    )
    parser.add_argument("--entries", type=int, required=True, help="entries of each codebook")
    parser.add_argument(
        "--groups",
        type=int,
        default=1,
        help="codebooks for each layer, each over an equal part of its columns (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=100_000, help="frames to fit on (default: %(default)s)")
    add_device(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the fit (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from ..errors import InputError
    from ..files import asked_for

    if importlib.util.find_spec("sklearn") is None:
        raise InputError("vqpool kmeans needs scikit-learn: pip install 's3prl-vqpool[kmeans]'.")
    if min(args.entries, args.groups, args.frames) < 1 or min(args.layers) < 0:
        raise InputError("--entries, --groups and --frames are at least 1, layers at least 0.")
    stored = stored_beside(args.output)
    with asked_for(args.output, stored, overwrite=args.overwrite):
        return _fit(args, stored)


def stored_beside(output: Path) -> Path:
    """The file of the codebooks that belongs to the YAML file ``output``."""
    from ..errors import InputError

    if output.suffix != ".yaml" or not output.parent.is_dir():
        raise InputError(f"{output}: name a .yaml file in a folder that exists.")
    return output.with_suffix(".safetensors")


def save(args: argparse.Namespace, books: KMeansCodebooks, stored: Path, window: int, hop: int) -> None:
    """Write ``books`` and the YAML file that says how to use them, and say so."""
    from ..codes.codebook import Codebook

    books.save(stored)
    checkpoint = str(Path(args.checkpoint).resolve()) if _is_path(args.checkpoint) else args.checkpoint
    Codebook(args.upstream, str(stored), window, hop, checkpoint).save(args.output)
    print(f"wrote {args.output} and {stored}; use them with -u kmeans_vq -g {args.output}")


def _fit(args: argparse.Namespace, stored: Path) -> int:
    from ..codes import kmeans_fit
    from ..codes.plain import plain_upstream
    from ..codes.upstream import hash_of
    from ..runner import plugin
    from . import devices

    device = devices.chosen(args.device)
    files = kmeans_fit.audio_files(args.speech)
    plugin.register()
    upstream = plain_upstream(args.upstream, args.checkpoint).eval().to(device)
    window, hop = kmeans_fit.geometry(upstream)
    frames = kmeans_fit.sample_frames(upstream, files, args.layers, args.frames, args.seed)
    identity = {
        "upstream": args.upstream,
        "weights": hash_of(upstream.state_dict()),
        "files": str(len(files)),
        "frames": str(len(frames[0])),
        "seed": str(args.seed),
    }
    books, distances = kmeans_fit.fit(frames, args.layers, args.entries, args.groups, args.seed, identity)
    for layer, (start, stop), distance in zip(books.layers, books.columns, distances):
        print(f"layer {layer}, columns {start} to {stop}: mean squared distance {distance:.4g}")
    save(args, books, stored, window, hop)
    return 0


def _is_path(checkpoint: str | None) -> bool:
    return checkpoint is not None and Path(checkpoint).exists()
