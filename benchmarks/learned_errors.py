#!/usr/bin/env python3
"""Measure how far SAP, ASP and VAP in blocks are from float64, beside one batch in torch's own float32 operations.

Vectors, and the gradients of a weighted sum of them by the frames and by each parameter, of random frames without
padding, with 25 and with 50 %. Differences and errors are root mean squares or maxima over a tensor, relative to those
of its values; of several tensors, the root mean square or the maximum.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import defaultdict
from pathlib import Path

import torch
from learned_poolings import NAMES, PADDING, SHAPES, batch, lengths_of
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_vqpool.pooling import build


def results(pooling: nn.Module, frames: Tensor, lengths: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Vectors and gradients, by name."""
    frames = frames.clone().requires_grad_()
    pooled = pooling(frames, lengths)
    names, parameters = zip(*pooling.named_parameters())
    gradients = torch.autograd.grad((pooled * weight).sum(), (frames, *parameters))
    return dict(zip(("vectors", "frames", *names), (pooled.detach(), *gradients)))


def in_a_batch(*given: object) -> dict[str, Tensor]:
    found: list[dict[str, Tensor]] = []
    batch(lambda: found.append(results(*given)))  # type: ignore[arg-type]
    return found[0]


def rows(name: str, shape: tuple[int, int, int], seeds: int) -> None:
    """Print one row for the vectors and for each gradient of a pooling."""
    apart, errors = defaultdict[str, list[float]](list), defaultdict[tuple[str, str], list[float]](list)
    for seed in range(seeds):
        for padding in PADDING:
            torch.manual_seed(seed)
            pooling, frames, lengths = build(name, shape[2]), torch.randn(shape), lengths_of(shape, padding)
            weight = torch.randn_like(pooling(frames, lengths).detach())
            ours, plain = (each(pooling, frames, lengths, weight) for each in (results, in_a_batch))
            exact = in_a_batch(copy.deepcopy(pooling).double(), frames.double(), lengths, weight.double())
            for what, right in exact.items():
                apart[what].append(float((ours[what] - plain[what]).abs().max() / right.abs().max()))
                for who, found in (("ours", ours), ("batch", plain)):
                    errors[what, who].append(float((found[what] - right).norm() / right.norm()))
    apart.pop("conv_2.bias", None)  # is 0 but for rounding
    for what, each in apart.items():
        mean = {who: (sum(e * e for e in errors[what, who]) / len(each)) ** 0.5 for who in ("ours", "batch")}
        cells = (
            f"{max(each):.0e} | {mean['ours']:.1e} | {mean['batch']:.1e} | {mean['ours'] / mean['batch']:.2f}"
        )
        print(f"| {list(shape)} | {name} | {what} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=2, help="batches for each padding (default: %(default)s)"
    )
    args = parser.parse_args()
    print("| [B, T, D] | pooling | of | most apart | error in blocks | of the batch | ratio |")
    print("|---" * 7 + "|", flush=True)
    for shape in SHAPES:
        for name in NAMES[1:]:
            rows(name, shape, args.seeds)


if __name__ == "__main__":
    main()
