"""Measure time and peak memory of every pooling, and compare them with a masked mean of the same frames.

Each pooling is timed from frames, lengths and codes to the pooled vectors, right after two masked means: the usual one,
``(frames * mask).sum(1) / lengths``, and the fastest that we know, a batched matrix product with the mask as weights. A
ratio is the median of the ratios within each repeat. Peak memory is the memory allocated beyond the inputs. "Loops" is
the plain Python of tests/reference, run once for the weights alone, with a training set of 1000 frames.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "reference")]

import pooling_loops  # noqa: E402

from s3prl_vqpool.pooling import build, counts, fit, method, methods, points  # noqa: E402

SHAPES = ((32, 400, 768), (8, 1500, 1024))
SIZES = (320, 320)
GOALS = {"partition": 1.5, "probability": 1.5}
COMPONENTS_GOAL = 3.0
DEVIATION_GOAL = 2.0


def speech_like_codes(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """Codes [B, T, 2]. An index lasts for about two frames, and some indices are much more frequent than others."""
    shape = (count, frames, len(SIZES))
    codes = (torch.rand(shape, generator=generator) ** 2 * SIZES[0]).long()
    stays = torch.rand(shape, generator=generator) < 0.45
    for t in range(1, frames):
        codes[:, t] = torch.where(stays[:, t], codes[:, t - 1], codes[:, t])
    return codes


def seconds(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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


def measure(shape: tuple[int, int, int], device: str, repeats: int) -> None:
    """Print one table."""
    generator = torch.Generator().manual_seed(0)
    count, frames_, dim = shape
    frames = torch.randn(shape, generator=generator).to(device)
    lengths = torch.randint(frames_ // 2, frames_ + 1, (count,), generator=generator)
    lengths[0] = frames_
    codes = speech_like_codes(count, frames_, generator)
    training = speech_like_codes(200, 400, generator)
    seen = counts(training, torch.full((200,), 400), SIZES)
    vectors = torch.randn(2 * dim, dim, generator=generator)

    python_codes = [[tuple(q) for q in row[:n]] for row, n in zip(codes.tolist(), lengths.tolist())]
    python_training = [tuple(q) for q in training.flatten(0, 1)[:1000].tolist()]
    codes, lengths = codes.to(device), lengths.to(device)
    mask = torch.arange(frames_, device=device) < lengths[:, None]

    def usual_mean() -> Tensor:
        return (frames * mask.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1)

    def fastest_mean() -> Tensor:
        return torch.bmm((mask / lengths.unsqueeze(1)).unsqueeze(1), frames).squeeze(1)

    def report(name: str, call: Callable[[], object], loops: str, goal: str) -> None:
        times = []
        for repeat in range(repeats + 5):
            sample = tuple(seconds(f, device) for f in (usual_mean, fastest_mean, call))
            if repeat >= 5:
                times.append(sample)
        milliseconds = 1e3 * median(t for _, _, t in times)
        usual, fastest = median(t / a for a, _, t in times), median(t / b for _, b, t in times)
        peak = peak_bytes(call, device) / 2**20
        print(
            f"| {name} | {milliseconds:.2f} | {usual:.2f} | {fastest:.2f} | {goal} | {peak:.2f} | {loops} |"
        )

    print(f"\n### [B, T, D] = {list(shape)}, {device}\n")
    print("| pooling | ms | x usual mean | x fastest mean | goal | peak MiB | loops ms |")
    print("|---|---|---|---|---|---|---|")
    report("usual masked mean", usual_mean, "", "")
    report("fastest masked mean", fastest_mean, "", "")
    for name in methods():
        known = method(name)
        statistics = fit(name, vectors) if known.map else None
        module = build(name, dim, counts=seen if known.needs_counts else None, statistics=statistics).to(
            device
        )
        loops = ""
        if known.needs_codes:

            def loop(name: str = name) -> None:
                for q in python_codes:
                    pooling_loops.weights(name, q, python_training)

            loops = f"{1e3 * seconds(loop, 'cpu'):.0f}"
        goal = COMPONENTS_GOAL if name == "VQ-AllSquash-OR" else GOALS.get(known.family)

        def call(module: torch.nn.Module = module) -> Tensor:
            return module(frames, lengths, codes)

        report(name, call, loops, "" if goal is None else f"{goal:g}")

    print("\n| +std | ms | x its sibling without | goal |")
    print("|---|---|---|---|")
    for name in [name for name in points() if name.endswith("+std")]:
        held = seen if method(name).needs_counts else None
        pair = [build(each, dim, counts=held).to(device) for each in (method(name).weights_name, name)]
        times = [
            tuple(seconds(partial(each, frames, lengths, codes), device) for each in pair)
            for _ in range(repeats + 5)
        ][5:]
        ratio = median(b / a for a, b in times)
        print(f"| {name} | {1e3 * median(b for _, b in times):.2f} | {ratio:.2f} | {DEVIATION_GOAL:g} |")


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
    arguments = parser.parse_args()
    gpu = f", {torch.cuda.get_device_name()}" if "cuda" in arguments.device else ""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {platform.machine()}{gpu}")
    with torch.no_grad():
        for device in arguments.device:
            for shape in SHAPES:
                measure(shape, device, arguments.repeats)


if __name__ == "__main__":
    main()
