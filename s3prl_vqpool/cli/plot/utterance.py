"""`vqpool plot utterance`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import add_checkpoint, add_device, add_model_config, add_option, add_upstream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from ...pooling import Counts

HELP = (
    "Draw an utterance over time: waveform, log-mel spectrogram, the code indices of each codebook as a ribbon, and "
    "the weights of poolings."
)
EXAMPLE = "vqpool plot utterance one.wav -u wav2vec2_vq --poolings AP VQ-LP VQ-Squash-AND --output one.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="WAV", help="an audio file")
    add_upstream(parser, "an upstream with codes: vqpool list upstreams", default="wav2vec2_vq")
    add_checkpoint(parser)
    add_model_config(parser)
    parser.add_argument(
        "--poolings",
        nargs="+",
        default=["AP", "VQ-LP"],
        metavar="NAME",
        help="poolings whose weights are drawn (default: AP VQ-LP)",
    )
    add_option(parser)
    parser.add_argument(
        "--statistics",
        type=Path,
        metavar="FILE",
        help="counts of a training set, for VQ-GP, VQ-BP and VQ-SIF: the pooling_statistics.safetensors of an "
        "experiment or of a store",
    )
    add_device(parser)


def draw(args: argparse.Namespace) -> Axes:
    import torch

    from ... import report
    from ...codes.entries import check_given
    from ...corpora import audio
    from ...errors import InputError
    from ...runner import plugin
    from .. import devices

    names = _with_weights(args.poolings, args.statistics)
    entry, device = plugin.entry_of(args.upstream), devices.chosen(args.device)
    check_given(entry, ckpt=args.checkpoint, model_config=args.model_config)
    samples = audio.read(args.file)
    upstream = entry(ckpt=args.checkpoint, model_config=args.model_config, refresh=False).eval().to(device)
    counts = _counts(upstream, args.statistics)
    try:
        codes = upstream.codes_alone(torch.from_numpy(samples).to(device)).cpu()
    except InputError as error:
        raise InputError(f"{args.file}: {error}") from error
    hop = upstream.get_downsample_rates("hidden_states") / audio.SAMPLE_RATE
    weights = _weights(names, codes, counts, args.option)
    return report.utterance(samples, codes, weights, hop)[0]


def _with_weights(patterns: Sequence[str], statistics: Path | None) -> list[str]:
    """Names of poolings, each with a weight for every frame; statistics are given if, and only if, one needs them."""
    from ... import pooling
    from ...errors import InputError

    offered = [name for name in pooling.methods() if pooling.method(name).weights_alone]
    names = pooling.select(patterns, offered)
    for name in names:
        if not pooling.method(name).weights_alone:
            raise InputError(
                f"--poolings {name}: has no weight for each frame. With weights: {', '.join(offered)}."
            )
    needing = [name for name in names if pooling.method(name).needs_counts]
    if needing and statistics is None:
        raise InputError(
            f"--poolings {needing[0]}: needs counts of a training set: give --statistics "
            "pooling_statistics.safetensors, of an experiment or a store with this upstream."
        )
    if statistics is not None and not needing:
        raise InputError(f"--statistics {statistics}: none of {', '.join(names)} needs it; leave it out.")
    return names


def _counts(upstream: Any, path: Path | None) -> Counts | None:
    from ...pooling import Counts
    from ...runner.statistics import whose

    return None if path is None else Counts.load(path, whose(upstream))


def _weights(
    names: Sequence[str], codes: Tensor, counts: Counts | None, words: Sequence[str]
) -> dict[str, Tensor]:
    """Weights [T] of codes [T, G], by pooling."""
    import torch

    from ... import pooling
    from ...pooling.options import from_words
    from ...pooling.registry import given_options

    options = given_options(names, from_words(words))
    found = {}
    for name in names:
        needed = counts if pooling.method(name).needs_counts else None
        one = torch.tensor([len(codes)])
        found[name] = pooling.weights(name, codes[None], one, counts=needed, **options[name])[0]
    return found
