#!/usr/bin/env python3
"""`vqpool embed` of many files beside a loop that calls `Embedder` with one at a time: seconds, largest difference.

Both run in this process, by turns, on the same files: every K-th WAV or FLAC below a folder, so that about
as many are taken as asked for; without a folder, clips of synthesised speech. The time of embed includes reading
headers, audio, parts and the output; the loop's includes reading headers and audio. The model is built before either
starts, and not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from turns import Figures, by_turns, machine, ratio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from s3prl_vqpool import Embedder  # noqa: E402
from s3prl_vqpool.corpora.folders import files_below  # noqa: E402
from s3prl_vqpool.corpora.synthetic.record import synthesise  # noqa: E402
from s3prl_vqpool.corpora.table.clips import Clip  # noqa: E402
from s3prl_vqpool.store import embed, vectors  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "speech", type=Path, nargs="?", help="folder of WAV or FLAC files, searched recursively"
    )
    parser.add_argument("-u", "--upstream", default="wav2vec2_vq_tiny")
    parser.add_argument("--pooling", default="VQ-LP")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of both (default: %(default)s)")
    Figures.option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.speech:
            synthesise(folder, ["ks"])
        measure(args, args.speech or Path(folder))


def measure(args: argparse.Namespace, speech: Path) -> None:
    """Print both times and the largest difference."""
    figures, paths = Figures(args.json), files_below(speech, (".wav", ".flac"))
    paths = paths[:: max(len(paths) // args.files, 1)][: args.files]
    embedder = Embedder(args.upstream, pooling=args.pooling, device="cpu")
    clips = [Clip(str(path), str(path), path) for path in paths]
    found: dict[str, torch.Tensor] = {}

    def together() -> None:
        with tempfile.TemporaryDirectory() as folder:
            found["embed"] = embed.embed(embed.Work(embedder, {}, clips, Path(folder)))
            vectors.write(Path(folder) / "vectors.npz", [clip.id for clip in clips], found["embed"].numpy())

    def alone() -> None:
        found["loop"] = torch.cat([embedder(path, progress=False) for path in paths])

    embedder(paths[:4])
    spent = by_turns({"embed": together, "loop": alone}, args.rounds, burn_in=0)
    over = figures.add(f"{len(paths)} files, one by one over embed", ratio(spent, "loop", "embed"))
    print(", ".join(map(str, machine().values())))
    print(
        f"{len(paths)} files: embed {median(spent['embed']):.1f} s, loop {median(spent['loop']):.1f} s, {over}"
    )
    difference = (found["embed"] - found["loop"]).abs().max()
    print(f"largest difference {difference:.1e}, largest number {found['loop'].abs().max():.2f}")


if __name__ == "__main__":
    main()
