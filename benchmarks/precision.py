#!/usr/bin/env python3
"""How far vectors of `--precision bf16` or fp16 are from those of float32, in two stores, and whether codes differ.

Both stores are of the same upstream, corpus and poolings. The error of a vector is the length of the difference over
the length of the float32 vector; of the mean over all layers, and of each layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor
from turns import Figure, Figures

from s3prl_vqpool.store import Store


def errors(exact: Tensor, near: Tensor) -> Tensor:
    """Relative errors [...] of vectors [..., E]."""
    exact, near = exact.double(), near.double()
    return (near - exact).norm(dim=-1) / exact.norm(dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  benchmarks/precision.py feats-float32/ feats-bf16/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("exact", type=Path, help="store in float32")
    parser.add_argument("near", type=Path, help="store in bf16 or fp16")
    Figures.option(parser)
    args = parser.parse_args()
    figures = Figures(args.json)
    exact, near = Store.open(args.exact), Store.open(args.near)
    rows = range(len(exact.utterances))
    differing = sum(int((exact.codes(row) != near.codes(row)).any(dim=1).sum()) for row in rows)
    print(f"{len(rows):,} utterances, {near.manifest['precision']}; frames with another code: {differing}\n")
    print(
        "| pooling | mean over layers, median | largest | worst layer, median | largest |\n|---|---|---|---|---|"
    )
    for name in exact.manifest["poolings"]:
        one, other = exact.vectors(name), near.vectors(name)  # [N, layers, E]
        whole, each = errors(one.mean(dim=1), other.mean(dim=1)), errors(one, other)
        worst = each.median(dim=0).values.argmax()
        figures.add(f"{name}, error of the mean over layers", Figure.of(whole.tolist(), ""))
        cells = [whole.median(), whole.max(), each[:, worst].median(), each.max()]
        print(f"| {name} | {' | '.join(f'{float(cell):.1e}' for cell in cells)} |")


if __name__ == "__main__":
    main()
