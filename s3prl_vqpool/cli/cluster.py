"""`vqpool cluster`: utterance vectors into clusters, as Kaldi's utt2spk, with scores against a reference."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_option, add_overwrite

if TYPE_CHECKING:
    from ..tables.clustering.methods import Settings
    from ..tables.clustering.sources import Vectors

HELP = (
    "Cluster utterance vectors by scikit-learn's HDBSCAN, which finds the number of clusters, k-means or agglomerative "
    "clustering. The vectors are of a store or of a file. They are brought to length 1. Writes utt2spk, spk2utt and "
    "utt2spk.json. An utterance that HDBSCAN gives no cluster (noise) is a cluster of its own, noise-N, also in the "
    "scores. With a reference prints ARI, NMI, V-measure, purity (share of utterances in the majority class of their "
    "cluster) and coverage (share in the largest cluster of their class)."
)
EXAMPLE = (
    "vqpool cluster --store feats_sid --pooling VQ-LP --method kmeans --clusters 60 --reference labels "
    "--output clusters/utt2spk\n"
    "  vqpool cluster --vectors vectors.npz --method hdbscan --pca 64 --utt2spk data/utt2spk "
    "--output clusters/utt2spk\n"
    "  vqpool cluster --vectors vectors.scp --method kmeans --clusters 60 --output clusters/utt2spk"
)
#: HDBSCAN is announced from so many seconds on.
_LONG = 20.0
_POOLING, _SPLIT = "VQ-LP", "test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store", type=Path, metavar="FOLDER", help="a store that vqpool extract wrote")
    source.add_argument(
        "--vectors",
        type=Path,
        metavar="FILE",
        help=".npz with arrays ids and vectors, .npy with the ids in NAME.ids.txt, .parquet with columns id, vector, "
        "or Kaldi's .ark or .scp with vectors of floats",
    )
    parser.add_argument(
        "--pooling",
        metavar="NAME",
        help=f"of a store: a pooling that is not learned, over the mean of the layers (default: {_POOLING})",
    )
    add_option(parser)
    parser.add_argument(
        "--split",
        choices=("train", "dev", "test", "all"),
        help=f"of a store: whose utterances are clustered (default: {_SPLIT})",
    )
    _add_method(parser)
    reference = parser.add_mutually_exclusive_group()
    reference.add_argument(
        "--reference", choices=("labels", "speakers"), help="of a store: what the clusters are scored against"
    )
    reference.add_argument(
        "--utt2spk", type=Path, metavar="FILE", help="a Kaldi utt2spk that the clusters are scored against"
    )
    parser.add_argument(
        "--prefix",
        action="store_true",
        help="put the cluster's name before every utterance id, as Kaldi sorts",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="UTT2SPK",
        help="the utt2spk to write; others lie beside it",
    )
    add_overwrite(parser)


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=("hdbscan", "kmeans", "agglomerative"),
        required=True,
        help="hdbscan; kmeans (of mini-batches from 50,000 vectors on); agglomerative (average distance, up to 30,000)",
    )
    parser.add_argument(
        "--clusters", type=int, metavar="K", help="their number, which kmeans and agglomerative need"
    )
    parser.add_argument(
        "--min-cluster-size",
        type=int,
        metavar="N",
        help="of hdbscan: fewest utterances of a cluster (default: 5)",
    )
    parser.add_argument(
        "--pca", type=int, metavar="N", help="keep the first N principal components of the vectors"
    )
    parser.add_argument(
        "--whiten", action="store_true", help="divide the principal components by their standard deviation"
    )
    parser.add_argument("--seed", type=int, default=0, help="of kmeans (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from ..files import asked_for, write_text
    from ..runner.config import seeded
    from ..tables.clustering import kaldi, methods
    from ..tables.clustering.scores import summary

    settings = methods.Settings(
        args.method,
        args.clusters,
        args.min_cluster_size,
        args.whiten,
        args.pca,
        seeded("--seed", args.seed),
    )
    methods.check(settings)
    outputs = args.output, kaldi.beside(args.output), args.output.with_name(f"{args.output.name}.json")
    with asked_for(*outputs, overwrite=args.overwrite):
        found = _vectors(args)
        methods.check_fit(settings, *found.vectors.shape)
        classes = _reference(args, found)
        _announce(settings, *found.vectors.shape)
        clusters = methods.cluster(found.vectors, settings)
        told = {**summary(clusters, classes), **_about(args, settings)}
        texts = (
            *kaldi.files(found.ids, kaldi.names(clusters), args.prefix),
            f"{json.dumps(told, indent=1)}\n",
        )
        for path, text in zip(outputs, texts):
            write_text(path, text)
    _show(told)
    print(f"wrote {', '.join(map(str, outputs))}")
    return 0


def _vectors(args: argparse.Namespace) -> Vectors:
    from ..errors import InputError
    from ..pooling.options import from_words
    from ..tables.clustering import kaldi, sources

    if args.store:
        pooling, split = args.pooling or _POOLING, args.split or _SPLIT
        found = sources.of_store(args.store, pooling, split, from_words(args.option))
    else:
        for option in ("pooling", "option", "split", "reference"):
            if getattr(args, option):
                raise InputError(f"--{option}: is of a store, but --vectors has vectors: leave it out.")
        found = sources.of_file(args.vectors)
    kaldi.require_words(found.ids, str(args.store or args.vectors))
    sources.require_finite(found, args.store or args.vectors)
    return found


def _reference(args: argparse.Namespace, found: Vectors) -> list[str] | None:
    from ..tables.clustering import sources

    if args.utt2spk:
        return sources.of_utt2spk(args.utt2spk, found.ids)
    return sources.reference(found, args.reference, args.store) if args.reference else None


def _announce(settings: Settings, count: int, width: int) -> None:
    """Say how long HDBSCAN will take, where that is long."""
    from ..tables.clustering.methods import seconds

    expected = seconds(settings, count, width)
    if expected >= _LONG:
        print(
            f"hdbscan compares all {count:,} vectors with each other, which takes about {_duration(expected)}; "
            "--method kmeans --clusters K --pca 64 is the way for so many",
            file=sys.stderr,
        )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _about(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from dataclasses import asdict

    from ..tables.provenance import versions

    of_store = {"pooling": args.pooling or _POOLING, "option": args.option, "split": args.split or _SPLIT}
    return {
        "settings": asdict(settings),
        "source": str(args.store or args.vectors),
        **(of_store if args.store else {}),
        "reference": str(args.utt2spk or args.reference or "") or None,
        "prefix": args.prefix,
        "versions": versions(),
    }


def _show(told: dict[str, Any]) -> None:
    from ..tables.clustering.scores import SCORES

    noise = f" and {told['noise']} noise, each a cluster of its own" if told["noise"] else ""
    print(f"{told['utterances']} utterances: {told['clusters']} clusters{noise}")
    if told["scores"]:
        print(f"{told['classes']} classes in the reference")
        for key, name in SCORES.items():
            print(f"{name:<10}{told['scores'][key]:.4f}")
