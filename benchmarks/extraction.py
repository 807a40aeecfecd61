#!/usr/bin/env python3
"""Measure how fast hidden states are made: wav2vec2_vq_local beside S3PRL's own wav2vec2_local, by turns.

The models have base or large size (24 layers of 1,024, LayerNorm in the CNN) and random weights. "runner" is the
upstream as `run_downstream.py` calls it, on the same padded batch as S3PRL's. "store" is the same batch as `vqpool
extract` computes it: in a model with GroupNorm, utterances of different lengths go through the CNN apart. The other
forms are the store's with `--precision`. Ratios are S3PRL's time over ours: above 1 is faster. The largest difference
of the runner's hidden states is shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from turns import Figures, by_turns, machine, ratio
from upstream_overhead import SIZES, upstreams

from s3prl_vqpool.store.encode import Encoder


def seconds_of(clips: str) -> list[float]:
    """``4x8``: four of 8 s; ``0.4,2,8``: one of each."""
    count, times, length = clips.partition("x")
    return [float(length)] * int(count) if times else [float(each) for each in clips.split(",")]


@torch.no_grad()
def measure(
    plain: Any, ours: Any, clips: str, precisions: Sequence[str], rounds: int, device: str
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each form, and the largest difference of hidden states."""
    generator = torch.Generator().manual_seed(1)
    wavs = [
        torch.randn(round(16000 * length), generator=generator).to(device) / 10
        for length in seconds_of(clips)
    ]
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(wavs),
        "runner": lambda: ours(wavs),
        "store": lambda: Encoder(ours, {}, False, torch.float32)(wavs),
        **{each: partial(Encoder(ours, {}, False, torch.float32, each), wavs) for each in precisions},
    }
    states = zip(plain(wavs)["hidden_states"], ours(wavs)["hidden_states"])
    difference = max(float((one - other).abs().max()) for one, other in states)
    return by_turns(calls, rounds, device, burn_in=0, title=f"{clips} s"), difference


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  benchmarks/extraction.py --sizes base --clips 10x1 0.4,2,8,30",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--clips",
        nargs="+",
        default=["10x0.4", "10x1", "4x8", "2x20", "0.4,2,8,30"],
        metavar="NxS",
        help="N clips of S seconds, or S,S,... for one of each (default: %(default)s)",
    )
    parser.add_argument(
        "--precisions",
        nargs="*",
        choices=("bf16", "fp16"),
        default=["bf16"],
        help="of the transformer, beside float32 (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="calls of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    Figures.option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = Figures(args.json)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    forms = ("runner", "store", *args.precisions)
    print(f"\n| size | clips | S3PRL, s | {' | '.join(forms)} | largest difference |")
    print(f"|---|---|---|{'---|' * len(forms)}---|")
    for size in args.sizes:
        plain, ours = upstreams(size, args.device)
        for clips in args.clips:
            times, difference = measure(plain, ours, clips, args.precisions, args.rounds, args.device)
            ratios = [
                figures.add(f"{size}, {clips} s, S3PRL's over {form}", ratio(times, "plain", form))
                for form in forms
            ]
            cells = f"{median(times['plain']):.2f} | {' | '.join(map(str, ratios))}"
            print(f"| {size} | {clips} s | {cells} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
