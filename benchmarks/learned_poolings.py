#!/usr/bin/env python3
"""Measure SP, SAP, ASP and VAP beside the same poolings of SpeechBrain and WeSpeaker, and beside one batch in torch.

All do the same work: forward, and forward and backward with gradients of the frames and of the parameters, by turns in
one process. Everyone gets frames in the layout that it takes. "Batch" is this package's own form for GPUs, which ran on
CPUs too until the poolings were worked on in blocks.

- SP: SpeechBrain's StatisticsPooling (with relative lengths), WeSpeaker's TSTP.
- SAP: neither has the mean alone under these weights.
- ASP: WeSpeaker's MHASTP with one head and a hidden layer of the size of a frame. SpeechBrain has no such pooling.
- VAP: SpeechBrain's AttentiveStatisticsPooling without global context (which adds a ReLU and a BatchNorm to 128
  channels), WeSpeaker's ASTP.

WeSpeaker's classes take no lengths: they pool the padding too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from runpy import run_path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from turns import Figure, Figures, by_turns, ratio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_vqpool.pooling import attended, build, published
from s3prl_vqpool.runner import compat

SHAPES = ((32, 400, 768), (8, 1500, 768), (64, 100, 192))
PADDING = (0.0, 0.25, 0.5)
NAMES = ("SP", "SAP", "ASP", "VAP")
Call = Callable[[], object]


def speechbrain() -> dict[str, Callable[[int], nn.Module]]:
    from speechbrain.lobes.models.ECAPA_TDNN import AttentiveStatisticsPooling
    from speechbrain.nnet.pooling import StatisticsPooling

    return {
        "SP": lambda dim: StatisticsPooling(),
        "VAP": lambda dim: AttentiveStatisticsPooling(dim, attention_channels=128, global_context=False),
    }


def wespeaker() -> dict[str, Callable[[int], nn.Module]]:
    spec = find_spec("wespeaker")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'wespeaker'")
    # its __init__.py imports all that its command needs
    layers = run_path(f"{spec.submodule_search_locations[0]}/models/pooling_layers.py")
    return {
        "SP": layers["TSTP"],
        "ASP": lambda dim: layers["MHASTP"](dim, layer_num=2, head_num=1, d_s=1, bottleneck_dim=dim),
        "VAP": lambda dim: layers["ASTP"](dim, bottleneck_dim=128),
    }


def others() -> dict[str, dict[str, Callable[[int], nn.Module]]]:
    """Poolings of other packages, of those that are installed."""
    compat.apply()  # SpeechBrain imports torchaudio
    found = {}
    for name, load in (("SpeechBrain", speechbrain), ("WeSpeaker", wespeaker)):
        try:
            found[name] = load()
        except (ImportError, OSError) as error:
            print(f"{name} is left out, as it cannot be imported: {error}", file=sys.stderr)
    return found


def lengths_of(shape: tuple[int, int, int], padding: float) -> Tensor:
    """Spread evenly, in random order, so that ``padding`` of all frames is padding; one utterance has none."""
    shortest, longest = shape[1] * (1 - 1.8 * padding), shape[1] * (1 - 0.2 * padding)
    spread = torch.linspace(shortest, longest, shape[0]).round().long()
    spread[-1] = shape[1]
    return spread[torch.randperm(shape[0], generator=torch.Generator().manual_seed(0))]


def run(pooling: nn.Module, given: tuple[Any, ...], backward: bool) -> None:
    """Forward, or forward and backward."""
    with torch.set_grad_enabled(backward):
        for each in (given[0], *pooling.parameters()):
            each.grad = None
        pooled = pooling(*given)
        if backward:
            pooled.backward(torch.ones_like(pooled))


def batch(call: Call) -> None:
    """As on a GPU: nothing is worked on in blocks."""
    with patch.multiple(attended, usable=lambda _: False), patch.multiple(published, usable=lambda _: False):
        call()


def calls(
    name: str, shape: tuple[int, int, int], padding: float, backward: bool, made: Any
) -> dict[str, Call]:
    """All that take turns at one pooling."""
    frames = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths, dim = lengths_of(shape, padding), shape[2]
    ours = partial(run, build(name, dim), (frames.clone().requires_grad_(), lengths), backward)
    found: dict[str, Call] = {"ours": ours, "batch": partial(batch, ours)}
    relative, turned = lengths / shape[1], frames.transpose(1, 2).contiguous().requires_grad_()
    for package, poolings in made.items():
        if name in poolings:
            given: tuple[Tensor, ...] = (turned,)
            if package == "SpeechBrain":
                given = (frames.clone().requires_grad_() if name == "SP" else turned, relative)
            found[package] = partial(run, poolings[name](dim), given, backward)
    return found


def short(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def table(backward: bool, made: Any, rounds: int, figures: Figures) -> None:
    """Print one table: how long ours takes, and how many times as long as each of the others."""
    what = "forward and backward" if backward else "forward"
    print(
        f"\n### {what}\n\n| [B, T, D] | padding | pooling | ms | x batch | {' | '.join(f'x {n}' for n in made)} |"
    )
    print("|---" * (5 + len(made)) + "|", flush=True)
    for shape, padding, name in product(SHAPES, PADDING, NAMES):
        times = by_turns(calls(name, shape, padding, backward, made), rounds)
        place = f"{what}, {list(shape)}, {100 * padding:.0f} %, {name}"
        cells = [f"{1e3 * figures.add(place, Figure.of(times['ours'], 's')).value:.1f}"]
        for other in ("batch", *made):
            known = other in times
            cells.append(
                short(figures.add(f"{place} / {other}", ratio(times, "ours", other)) if known else None)
            )
        print(f"| {list(shape)} | {100 * padding:.0f} % | {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  OMP_NUM_THREADS=1 python benchmarks/learned_poolings.py --rounds 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="timed turns of each (default: %(default)s)")
    Figures.option(parser)
    args = parser.parse_args()
    made, figures = others(), Figures(args.json)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    for backward in (True, False):
        table(backward, made, args.rounds, figures)


if __name__ == "__main__":
    main()
