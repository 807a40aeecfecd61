#!/usr/bin/env python3
"""Fit the codebooks of `-u mfcc_vq`: k-means on S3PRL's own MFCCs of a folder of speech.

The shipped file was made from LibriSpeech clips (CC BY 4.0) and Picovoice wake words (Apache-2.0), without labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans
from tqdm import tqdm

from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.corpora import audio

# isort: split
from s3prl import hub  # after s3prl_vqpool, which makes it import on every stack

COLUMNS = ((0, 13), (13, 39))  # statics; deltas and delta-deltas
ENTRIES = 64


def sample_frames(files: list[Path], count: int, generator: np.random.Generator) -> np.ndarray:
    """float32 [count, 39]: frames drawn evenly from all files."""
    mfcc = hub.mfcc()
    per_file = -(-count // len(files))
    kept = []
    for file in tqdm(files, desc="MFCC", unit="file", disable=None):
        with torch.no_grad():
            frames = mfcc([torch.from_numpy(audio.read(file))])["hidden_states"][0][0].numpy()
        kept.append(frames[generator.permutation(len(frames))[:per_file]])
    return generator.permutation(np.concatenate(kept))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  recipes/mfcc_vq/fit.py speech/unlabelled upstream_expert/kmeans_vq/mfcc.safetensors",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("speech", type=Path, help="folder of WAV or FLAC files, searched recursively")
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--frames", type=int, default=200_000, help="frames to fit on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    files = sorted(path for path in args.speech.rglob("*") if path.suffix in (".wav", ".flac"))
    if not files:
        parser.error(f"{args.speech}: no WAV or FLAC files in it")
    frames = sample_frames(files, args.frames, np.random.default_rng(args.seed))
    centroids = []
    for start, stop in COLUMNS:
        fitted = KMeans(ENTRIES, n_init=3, random_state=args.seed).fit(frames[:, start:stop])
        centroids.append(torch.from_numpy(fitted.cluster_centers_.astype(np.float32)))
        print(f"columns {start}:{stop}: mean squared distance {fitted.inertia_ / len(frames):.3f}")
    identity = {
        "upstream": "mfcc",
        "files": str(len(files)),
        "frames": str(len(frames)),
        "seed": str(args.seed),
    }
    KMeansCodebooks(tuple(centroids), COLUMNS, identity).save(args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
