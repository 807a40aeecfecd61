#!/usr/bin/env python3
"""How long `vqpool cluster` takes for simulated utterance vectors, and how much memory.

A random centre for each speaker, noise of 0.7 times its length, all vectors of length 1, float32. Simulated
speakers lie far apart, so the ARI that is printed says that the clusters are sound, nothing of quality on speech.
"""

from __future__ import annotations

import argparse
import resource

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from turns import Figure, Figures, seconds

from s3prl_vqpool.tables.clustering import methods
from s3prl_vqpool.tables.clustering.methods import Settings
from s3prl_vqpool.tables.clustering.scores import partition

#: Length of the noise, as a share of the centre's.
NOISE = 0.7


def simulated(count: int, width: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 [count, width] of ``count / each`` speakers, and the speaker of each, int [count]."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, count // each), width), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    speakers = generator.integers(len(centres), size=count)
    noise = generator.standard_normal((count, width), dtype=np.float32)
    vectors = centres[speakers] + noise * np.float32(NOISE / width**0.5)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), speakers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: %(prog)s --vectors 5000 20000 --width 64"
    )
    parser.add_argument(
        "--vectors", type=int, nargs="+", default=[2_000, 20_000], help="how many (default: %(default)s)"
    )
    parser.add_argument("--width", type=int, default=64, help="numbers of a vector (default: %(default)s)")
    parser.add_argument("--each", type=int, default=50, help="vectors of a speaker (default: %(default)s)")
    parser.add_argument("--method", choices=methods.METHODS, default="hdbscan", help="default: %(default)s")
    parser.add_argument("--pca", type=int, help="keep so many principal components")
    Figures.option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)  # so seconds are those that it worked; scikit-learn needs OMP_NUM_THREADS=1
    figures = Figures(args.json)
    for count in args.vectors:
        spent, ari = measured(count, args)
        name = f"{args.method}, {count:,} vectors of {args.width}"
        figures.add(name, Figure.of([spent], "s"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {spent:.1f} s of CPU, ARI {ari:.3f}, {memory:.1f} GiB at most", flush=True)


def measured(count: int, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds, and the ARI of the clusters."""
    vectors, speakers = simulated(count, args.width, args.each)
    clusters = None if methods.METHODS[args.method].finds else len(np.unique(speakers))
    found: list[np.ndarray] = []
    settings = Settings(args.method, clusters, components=args.pca)
    spent = seconds(lambda: found.append(methods.cluster(vectors, settings)))
    return spent, adjusted_rand_score(speakers, partition(found[0]))


if __name__ == "__main__":
    main()
