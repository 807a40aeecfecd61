#!/usr/bin/env python3
"""Measure the time that the codes add to an upstream: wav2vec2_vq_local beside S3PRL's own wav2vec2_local.

The model has base size (12 layers of 768, 512 convolution channels, 2 x 320 codes) and random weights, and is made here
with S3PRL's classes. The two upstreams take turns, and each is first in every other pair. The ratio is the median over
the pairs, so that other work on the machine affects both. "Codes alone" is only the added work: the quantizer's
projection and argmax, the mask, and the hand-over. The goal is at most 3 % more time.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from turns import Figure, Figures, by_turns, ratio, seconds

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
from s3prl import hub
from s3prl.upstream.interfaces import UpstreamBase
from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig, Wav2Vec2Config, Wav2Vec2Model

BASE: dict[str, Any] = {
    "quantize_targets": True,
    "latent_vars": 320,
    "latent_groups": 2,
    "latent_dim": 256,
    "final_dim": 256,
}
LARGE: dict[str, Any] = {
    **BASE,
    "extractor_mode": "layer_norm",
    "conv_bias": True,
    "layer_norm_first": True,
    "encoder_layers": 24,
    "encoder_embed_dim": 1024,
    "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16,
    "latent_dim": 768,
    "final_dim": 768,
}
SIZES = {"base": BASE, "large": LARGE}
GOAL = 0.03


def upstreams(size: str, device: str) -> tuple[Any, Any]:
    """S3PRL's upstream and ours, on the same checkpoint with random weights."""
    config = Wav2Vec2Config(**SIZES[size])
    task = AudioPretrainingConfig(normalize=size == "large")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "random.pt")
        weights = Wav2Vec2Model(config).state_dict()
        torch.save({"task_cfg": asdict(task), "model_cfg": asdict(config), "model_weight": weights}, path)
        del weights
        return tuple(
            entry(ckpt=path).eval().to(device) for entry in (hub.wav2vec2_local, hub.wav2vec2_vq_local)
        )


def codes_alone(ours: Any, wavs: list[torch.Tensor], device: str) -> float:
    """Seconds of the work that our upstream adds: S3PRL's forward pass is replaced by its result."""
    kept: dict[str, Any] = {}

    def forward(self: Any, wavs: list[torch.Tensor]) -> dict:
        self._latents = kept["latents"]
        return dict(kept["result"])

    with torch.no_grad():
        handle = ours.model.layer_norm.register_forward_hook(lambda *args: kept.update(latents=args[2]))
        kept["result"] = UpstreamBase.__call__(ours, wavs)
        handle.remove()
    ours.forward = forward.__get__(ours)
    spent = min(seconds(lambda: ours(wavs), device) for _ in range(30))
    del ours.forward
    return spent


@torch.no_grad()
def measure(plain: Any, ours: Any, clips: str, pairs: int, device: str, figures: Figures) -> str:
    """One row of the table."""
    generator = torch.Generator().manual_seed(1)
    count, length = clips.split("x")
    wavs = [
        torch.randn(round(16000 * float(length)), generator=generator).to(device) for _ in range(int(count))
    ]
    spent = by_turns(
        {"plain": lambda: plain(wavs), "codes": lambda: ours(wavs)}, pairs, device, title=f"{clips} s"
    )
    with_codes = figures.add(f"{clips} s, with codes over S3PRL's", ratio(spent, "codes", "plain"))
    usual, alone = median(spent["plain"]), codes_alone(ours, wavs, device)
    figures.add(f"{clips} s, codes alone over S3PRL's", Figure.of([alone / usual], "x"))
    low, more, high = ((each - 1) * 100 for each in (with_codes.low, with_codes.value, with_codes.high))
    return (
        f"| {clips} s | {usual * 1e3:.0f} ms | {median(spent['codes']) * 1e3:.0f} ms "
        f"| {more:+.2f} % | {low:+.1f} to {high:+.1f} % | {alone * 1e3:.2f} ms = {alone / usual * 100:.2f} % |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  benchmarks/upstream_overhead.py --clips 4x4 8x1 --pairs 21",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument(
        "--clips", nargs="+", default=["4x4", "8x1"], metavar="NxS", help="N clips of S seconds"
    )
    parser.add_argument(
        "--pairs", type=int, default=21, help="forwards of each upstream (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    Figures.option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = Figures(args.json)
    plain, ours = upstreams(args.size, args.device)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU threads"
    print(f"wav2vec2_vq_local over wav2vec2_local, {args.size} size, {where}, torch {torch.__version__},")
    print(
        f"Python {platform.python_version()}, median of {args.pairs} interleaved pairs; goal: at most {GOAL:.0%} more\n"
    )
    print("| clips | S3PRL | with codes | more | middle half of the pairs | codes alone |")
    print("|---|---|---|---|---|---|")
    for clips in args.clips:
        print(measure(plain, ours, clips, args.pairs, args.device, figures), flush=True)


if __name__ == "__main__":
    main()
