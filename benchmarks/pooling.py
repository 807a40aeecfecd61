"""Measure time and peak memory of every pooling, and compare them with a masked mean of the same frames.

Each pooling is timed from frames, lengths and codes to the pooled vectors, right after two masked means: the usual one,
``(frames * mask).sum(1) / lengths``, and the fastest that we know, a batched matrix product with the mask as weights. A
ratio is the median of the ratios within each repeat. Peak memory is the memory allocated beyond the inputs. "Loops" is
the plain Python of tests/reference, run once for the weights alone, with a training set of 1000 frames. Every point
that has +std is timed beside its sibling without it, forward, and those without a map also forward and backward.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from turns import Figures, by_turns, ratio, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "reference")]

import pooling_loops  # noqa: E402

from s3prl_vqpool.pooling import Counts, LinearMap, build, counts, method, methods, points  # noqa: E402

SHAPES = ((32, 400, 768), (8, 1500, 1024))
SIZES = (320, 320)
GOALS = {"partition": 1.5, "probability": 1.5}
COMPONENTS_GOAL = 3.0


def speech_like_codes(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """Codes [B, T, 2]. An index lasts for about two frames, and some indices are much more frequent than others."""
    shape = (count, frames, len(SIZES))
    codes = (torch.rand(shape, generator=generator) ** 2 * SIZES[0]).long()
    stays = torch.rand(shape, generator=generator) < 0.45
    for t in range(1, frames):
        codes[:, t] = torch.where(stays[:, t], codes[:, t - 1], codes[:, t])
    return codes


def peak_bytes(call: Callable[[], object], device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    held = peak = 0
    for event in trace.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def measure(shape: tuple[int, int, int], device: str, repeats: int, figures: Figures) -> None:
    """Print one table."""
    generator = torch.Generator().manual_seed(0)
    count, frames_, _ = shape
    frames = torch.randn(shape, generator=generator).to(device)
    lengths = torch.randint(frames_ // 2, frames_ + 1, (count,), generator=generator)
    lengths[0] = frames_
    codes = speech_like_codes(count, frames_, generator)
    training = speech_like_codes(200, 400, generator)
    seen = counts(training, torch.full((200,), 400), SIZES)

    python_codes = [[tuple(q) for q in row[:n]] for row, n in zip(codes.tolist(), lengths.tolist())]
    python_training = [tuple(q) for q in training.flatten(0, 1)[:1000].tolist()]
    codes, lengths = codes.to(device), lengths.to(device)
    mask = torch.arange(frames_, device=device) < lengths[:, None]

    place = f"[B, T, D] = {list(shape)}, {device}"

    def usual_mean() -> Tensor:
        return (frames * mask.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1)

    def fastest_mean() -> Tensor:
        return torch.bmm((mask / lengths.unsqueeze(1)).unsqueeze(1), frames).squeeze(1)

    def report(name: str, call: Callable[[], object], loops: str, goal: str) -> None:
        times = by_turns({"usual": usual_mean, "fastest": fastest_mean, "it": call}, repeats, device, 5)
        milliseconds = 1e3 * median(times["it"])
        usual = figures.add(f"{place}, {name} over the usual mean", ratio(times, "it", "usual")).value
        fastest = figures.add(f"{place}, {name} over the fastest mean", ratio(times, "it", "fastest")).value
        peak = peak_bytes(call, device) / 2**20
        print(
            f"| {name} | {milliseconds:.2f} | {usual:.2f} | {fastest:.2f} | {goal} | {peak:.2f} | {loops} |"
        )

    print(f"\n### {place}\n")
    print("| pooling | ms | x usual mean | x fastest mean | goal | peak MiB | loops ms |")
    print("|---|---|---|---|---|---|---|")
    report("usual masked mean", usual_mean, "", "")
    report("fastest masked mean", fastest_mean, "", "")
    for name in methods():
        known = method(name)
        pooling = module(name, frames, seen)
        loops = ""
        if known.needs_codes:

            def loop(name: str = name) -> None:
                for q in python_codes:
                    pooling_loops.weights(name, q, python_training)

            loops = f"{1e3 * seconds(loop, 'cpu'):.0f}"
        goal = COMPONENTS_GOAL if name == "VQ-AllSquash-OR" else GOALS.get(known.family)

        report(name, partial(pooling, frames, lengths, codes), loops, "" if goal is None else f"{goal:g}")

    measure_deviation(place, (frames, lengths, codes), seen, repeats, figures)


def measure_deviation(
    place: str, inputs: Sequence[Tensor], seen: Counts, repeats: int, figures: Figures
) -> None:
    """Print how much longer every point with +std takes than its sibling without, by turns."""
    maps = dict.fromkeys(m.map.name if m.map else "" for m in map(method, points()))
    columns = [*(f"+std{known and f' and {known}'}" for known in maps), "+std, with backward"]
    print(f"\n| x its sibling without +std | ms | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    for name in [name for name in methods() if method(name).weights_alone]:
        plain = [module(f"{name}{moments}", inputs[0], seen) for moments in ("", "+std")]
        pairs = [
            [module(f"{name}{m}{known and f'|{known}'}", inputs[0], seen) for m in ("", "+std")]
            for known in maps
        ]
        calls = [[partial(each, *inputs) for each in pair] for pair in pairs]
        calls.append([partial(backward, each, *inputs) for each in plain])
        found = [
            by_turns(dict(zip(("mean", "std"), pair)), repeats, inputs[0].device.type, 5) for pair in calls
        ]
        ratios = [
            figures.add(f"{place}, {name}, {column}", ratio(times, "std", "mean")).value
            for column, times in zip(columns, found)
        ]
        cells = " | ".join(f"{each:.2f}" for each in ratios)
        print(f"| {name} | {1e3 * median(found[0]['std']):.2f} | {cells} |")


def module(name: str, frames: Tensor, seen: Counts) -> torch.nn.Module:
    """A pooling with statistics of the right shapes; the values of a map do not change its speed."""
    known = method(name)
    size = known.output_dim(frames.size(2))
    factor = torch.rand(size) if name.endswith("|standardise") else torch.rand(size, size)
    statistics = LinearMap(known.spec, torch.rand(size), factor) if known.map else None
    counted = seen if known.needs_counts else None
    return build(name, frames.size(2), counts=counted, statistics=statistics).to(frames.device)


def backward(pooling: torch.nn.Module, frames: Tensor, lengths: Tensor, codes: Tensor) -> None:
    """Forward and backward, to the frames."""
    with torch.enable_grad():
        pooled = pooling(frames.detach().requires_grad_(), lengths, codes)
        pooled.backward(torch.ones_like(pooled))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: OMP_NUM_THREADS=1 python benchmarks/pooling.py --device cpu --repeats 25",
    )
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument(
        "--device", choices=devices, nargs="+", default=devices, help="default: all there are"
    )
    parser.add_argument("--repeats", type=int, default=50, help="timed runs of each pooling (default: 50)")
    Figures.option(parser)
    arguments = parser.parse_args()
    figures = Figures(arguments.json)
    gpu = f", {torch.cuda.get_device_name()}" if "cuda" in arguments.device else ""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {platform.machine()}{gpu}")
    with torch.no_grad():
        for device in arguments.device:
            for shape in SHAPES:
                measure(shape, device, arguments.repeats, figures)


if __name__ == "__main__":
    main()
