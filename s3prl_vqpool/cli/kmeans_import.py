"""`vqpool kmeans import`: a k-means model that others published becomes a codebook.yaml, for -u kmeans_vq."""

from __future__ import annotations

import argparse
from pathlib import Path

from .kmeans import save, stored_beside
from .options import add_checkpoint, add_overwrite, add_upstream

HELP = (
    "Take over the centroids of a k-means model that others published, such as fairseq's learn_kmeans.py and textless "
    "write. Writes OUT.yaml and OUT.safetensors. Use them with -u kmeans_vq -g OUT.yaml. Nothing in the file is "
    "imported or run, and scikit-learn is not needed."
)
EXAMPLE = "vqpool kmeans import km500.bin --output hubert.yaml -u hubert -l 6"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        help="scikit-learn's KMeans or MiniBatchKMeans from joblib.dump (also compressed) or pickle.dump; or a float "
        "matrix [entries, columns] of numpy.save, torch.save or safetensors",
    )
    parser.add_argument("--output", type=Path, metavar="OUT", required=True, help="YAML file to write")
    add_overwrite(parser)
    add_upstream(parser, "the upstream of S3PRL that the model was fitted on")
    add_checkpoint(parser)
    parser.add_argument(
        "-l",
        "--layers",
        metavar="LAYER",
        type=int,
        required=True,
        help="hidden state that the model was fitted on; 0 is what goes into the first layer, so this is the number "
        "that fairseq's dump_hubert_feature.py takes",
    )


def run(args: argparse.Namespace) -> int:
    from ..errors import InputError
    from ..files import asked_for

    if args.layers < 0:
        raise InputError(f"-l {args.layers}: layers are at least 0.")
    stored = stored_beside(args.output)
    with asked_for(args.output, stored, overwrite=args.overwrite):
        return _import(args, stored)


def _import(args: argparse.Namespace, stored: Path) -> int:
    from ..checkpoints import centroids
    from ..codes import kmeans_fit
    from ..codes.kmeans import KMeansCodebooks
    from ..codes.plain import plain_upstream
    from ..codes.upstream import hash_of
    from ..files import sha256
    from ..runner import plugin

    found = centroids.read(args.file)
    plugin.register()
    upstream = plain_upstream(args.upstream, args.checkpoint).eval()
    window, hop = kmeans_fit.geometry(upstream)
    kmeans_fit.require_columns(upstream, args.layers, found.size(1), args.file)
    identity = {
        "upstream": args.upstream,
        "weights": hash_of(upstream.state_dict()),
        "imported": args.file.name,
        "sha256": sha256(args.file),
    }
    books = KMeansCodebooks((found,), ((0, found.size(1)),), identity, (args.layers,))
    print(f"layer {args.layers}: {found.size(0)} entries of {found.size(1)} columns")
    save(args, books, stored, window, hop)
    return 0
