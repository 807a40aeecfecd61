#!/usr/bin/env python3
"""`vqpool embed` of many files beside a loop that calls `Embedder` with one at a time: seconds, largest difference.

Both run in this process, one after the other, on the same files: every K-th WAV or FLAC below a folder, so that about
as many are taken as asked for. The time of embed includes reading headers, audio, parts and the output; the loop's
includes reading headers and audio. The model is built before either starts, and not counted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from s3prl_vqpool import Embedder  # noqa: E402
from s3prl_vqpool.corpora.folders import files_below  # noqa: E402
from s3prl_vqpool.corpora.table.clips import Clip  # noqa: E402
from s3prl_vqpool.store import embed, vectors  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="folder of WAV or FLAC files, searched recursively")
    parser.add_argument("-u", "--upstream", default="wav2vec2_vq_tiny")
    parser.add_argument("--pooling", default="VQ-LP")
    parser.add_argument("--files", type=int, default=2000)
    args = parser.parse_args()
    paths = files_below(args.speech, (".wav", ".flac"))
    paths = paths[:: max(len(paths) // args.files, 1)][: args.files]
    embedder = Embedder(args.upstream, pooling=args.pooling, device="cpu")
    embedder(paths[:4])  # burn-in
    clips = [Clip(str(path), str(path), path) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        together = embed.embed(embedder, clips, Path(folder), {})
        vectors.write(Path(folder) / "vectors.npz", [clip.id for clip in clips], together.numpy())
        batched = time.perf_counter() - start
    start = time.perf_counter()
    alone = torch.cat([embedder(path, progress=False) for path in paths])
    looped = time.perf_counter() - start
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, threads {torch.get_num_threads()}"
    )
    print(f"{len(paths)} files: embed {batched:.1f} s, loop {looped:.1f} s, {looped / batched:.2f} x")
    print(f"largest difference {(together - alone).abs().max():.1e}, largest number {alone.abs().max():.2f}")


if __name__ == "__main__":
    main()
