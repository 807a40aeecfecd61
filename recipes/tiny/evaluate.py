#!/usr/bin/env python3
"""Evaluate a small upstream with codes: nearest neighbours among ten keywords, and statistics of the codes.

The training part of KS is the index; the queries are its test part, from other speakers. A query takes the label of its
nearest neighbour by angle. Features are the mean over all hidden states, one utterance at a time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from s3prl_vqpool.corpora import Utterance, audio
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.errors import InputError, report, unknown_name
from s3prl_vqpool.runner import plugin
from s3prl_vqpool.tables.features import Features
from s3prl_vqpool.tables.nearest import Fold, accuracy, evaluate

# isort: split
import s3prl.hub  # noqa: F401 (with s3prl_vqpool before it, torchaudio imports on every stack)

# isort: split
from torchaudio.compliance.kaldi import mfcc

POOLINGS = ("AP", "SP", "VQ-Squash-AND", "VQ-AllSquash-AND", "VQ-LP", "VQ-GP", "VQ-BP")
KEYWORDS = 10
SILENT_DB = 40.0
COMMONEST = 10


def utterances(root: Path, split: str) -> tuple[list[Utterance], Fold]:
    """The keywords' utterances, the index first: train for queries of dev, train and dev for queries of test."""
    ks = speech_commands(root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01")
    indexed = ks.splits["train"] + (ks.splits["dev"] if split == "test" else [])
    keep = [[u for u in part if u.label[0] < KEYWORDS] for part in (indexed, ks.splits[split])]
    rows = torch.arange(len(keep[0]) + len(keep[1]))
    index, queries = rows[: len(keep[0])], rows[len(keep[0]) :]
    return keep[0] + keep[1], Fold("", index, queries, queries, torch.ones(len(queries)))


def upstream_of(name: str) -> torch.nn.Module:
    """The upstream of a name for `-u`, or of a file of export.py; InputError if it is neither."""
    if name.endswith(".safetensors"):
        return plugin.upstreams()["wav2vec2_vq_local"](ckpt=name)
    if name not in plugin.upstreams():
        raise unknown_name("upstream with codes", name, plugin.upstreams())
    return plugin.upstreams()[name]()


@torch.no_grad()
def features(upstream: torch.nn.Module, wavs: list[Tensor]) -> Features:
    """Codes, and frames averaged over the hidden states."""
    codes, frames = [], []
    for wav in tqdm(wavs, desc="hidden states", unit="clip", disable=None):
        found = upstream([wav])
        length = int(found["code_lengths"][0])
        codes.append(found["codes"][0, :length])
        frames.append(torch.stack(found["hidden_states"]).mean(dim=0)[0, :length])
    lengths = torch.tensor([len(each) for each in codes])
    return Features(
        lengths,
        upstream.codebook_sizes,
        codes.__getitem__,
        frames.__getitem__,
        lambda name: None,
        kept=lengths,
    )


def silent(wav: Tensor, count: int) -> Tensor:
    """Which frames are `SILENT_DB` below the loudest frame of their clip: bool [count]."""
    hop = round(len(wav) / count / 160) * 160
    level = 20 * torch.log10(wav.unfold(0, 400, hop)[:count].square().mean(dim=1).sqrt() + 1e-8)
    return level < level.max() - SILENT_DB


def of_codes(found: Features, wavs: list[Tensor], rows: Tensor) -> list[str]:
    """Perplexity of each codebook over ``rows``, and the share of silence that the most frequent tuples cover."""
    codes = [found.codes(row) for row in rows.tolist()]
    together = torch.cat(codes)
    lines = []
    for group, column in enumerate(together.T):
        share = column.bincount().float() / len(column)
        used = int((share > 0).sum())
        lines.append(
            f"codebook {group + 1}: perplexity {float(torch.special.entr(share).sum().exp()):.1f}, {used} entries used"
        )
    quiet = torch.cat([each[silent(wavs[row], len(each))] for row, each in zip(rows.tolist(), codes)])
    counts = quiet.unique(dim=0, return_counts=True)[1].sort(descending=True).values
    runs = sum(1 + int((each[1:] != each[:-1]).any(dim=1).sum()) for each in codes) / len(codes)
    lines.append(
        f"silence: {len(quiet)} of {len(together)} frames, {len(counts)} tuples, the {COMMONEST} commonest cover "
        f"{100 * float(counts[:COMMONEST].sum()) / max(1, len(quiet)):.1f} %"
    )
    return [*lines, f"{runs:.1f} runs of equal tuples in {len(together) / len(codes):.1f} frames"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python recipes/tiny/evaluate.py wav2vec2_vq_tiny mfcc_vq --speech corpora",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("upstreams", nargs="*", help="names for -u, or .safetensors files of export.py")
    parser.add_argument(
        "--speech", type=Path, required=True, help="folder of corpora that tests/real_speech.py made"
    )
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    args = parser.parse_args()
    try:
        listed, fold = utterances(args.speech, args.split)
        wavs = [torch.from_numpy(audio.read(utterance.path)) for utterance in listed]
        labels = torch.tensor([utterance.label for utterance in listed])
        print(f"{len(fold.train)} indexed, {len(fold.test)} queries ({args.split})")
        for name in args.upstreams:
            found = features(upstream_of(name).eval(), wavs)
            print(f"\n{name}")
            for pooling in POOLINGS:
                (score,) = evaluate(pooling, found, labels, [fold])
                print(f"  {pooling:18}{score.accuracy:6.2f}")
            print("  " + "\n  ".join(of_codes(found, wavs, fold.test)))
    except InputError as error:
        return report(error)
    statistics = torch.stack([_mean_and_deviation(wav) for wav in wavs])
    score = accuracy(statistics, labels, fold.train, fold.test)
    print(f"\nMFCC (Kaldi's, not normalised), mean and standard deviation\n{score:26.2f}")
    return 0


def _mean_and_deviation(wav: Tensor) -> Tensor:
    frames = mfcc(wav[None] * 2**15)
    return torch.cat([frames.mean(dim=0), frames.std(dim=0)])


if __name__ == "__main__":
    raise SystemExit(main())
