"""Utterances in memory, a store of them, and stores as the command makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_vqpool.cli.main import main
from s3prl_vqpool.corpora import Corpus, Utterance
from s3prl_vqpool.tables.features import Features
from s3prl_vqpool.tables.nearest import Fold

SIZES = (4, 5)
STATE = {
    "upstream": "fake_vq",
    "fingerprint": "0",
    "codebook_sizes": list(SIZES),
    "frames": True,
    "poolings": [],
    "layers": 2,
}


def features(frames: Sequence[Tensor], codes: Sequence[Tensor]) -> Features:
    return Features(
        torch.tensor([len(x) for x in frames]),
        SIZES,
        lambda row: codes[row],
        lambda row: frames[row],
        _nothing,
        torch.tensor([len(x) for x in frames]),
    )


def _nothing(name: str) -> Tensor:
    raise AssertionError(f"{name}: there are frames")


def random_codes(lengths: Sequence[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.stack([torch.randint(v, (n,), generator=generator) for v in SIZES], 1) for n in lengths]


def random_frames(lengths: Sequence[int], dim: int = 6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=generator) for n in lengths]


def fold(
    train: Sequence[int], dev: Sequence[int], test: Sequence[int], name: str = "", weights: Any = None
) -> Fold:
    rows = [torch.tensor(list(each)) for each in (train, dev, test)]
    ones = [1.0] * len(rows[1]) if weights is None else weights
    return Fold(name, *rows, torch.tensor(ones, dtype=torch.float64))


@dataclass(frozen=True)
class Row:
    id: str
    path: Path
    start: int | None
    frames: int | None
    length: int
    label: tuple[int, ...]


@dataclass
class FakeStore:
    """Reads like `store.Store`; the layers of an utterance are its frames times 1, 2, ... (mean: ``frames``)."""

    manifest: dict[str, Any]
    utterances: list[Row]
    _codes: list[Tensor]
    _frames: list[Tensor]
    added: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def kept(self) -> Tensor:
        return self.lengths

    @property
    def lengths(self) -> Tensor:
        return torch.tensor([row.length for row in self.utterances])

    @property
    def labels(self) -> Tensor:
        return torch.tensor([row.label for row in self.utterances])

    def rows(self, utterances: Sequence[Utterance]) -> list[int]:
        known = {(row.path, row.start, row.frames): number for number, row in enumerate(self.utterances)}
        return [known[u.path, u.start, u.frames] for u in utterances]

    def codes(self, row: int) -> Tensor:
        return self._codes[row]

    def frames(self, row: int) -> Tensor:
        assert self.manifest["frames"]
        return self._frames[row]

    def vectors(self, pooling: str) -> Tensor:
        """Of every layer: 0.5 and 1.5 times AP."""
        assert pooling in {*self.manifest["poolings"], *self.added}
        average = torch.stack([x.mean(dim=0) for x in self._frames])
        return torch.stack([0.5 * average, 1.5 * average], dim=1)


def fake(task: str, classes: int = 3, each: int = 4, **manifest: Any) -> tuple[FakeStore, Corpus]:
    """A perfect encoder of ``classes``: train, dev and test of ``each`` utterances per class, and their corpus."""
    splits: dict[str, list[Utterance]] = {}
    for split in ("train", "dev", "test"):
        splits[split] = [
            Utterance(Path(f"/{split}/{k}.wav").absolute(), (k % classes,), f"{split}-{k}")
            for k in range(classes * each)
        ]
    utterances = [u for split in splits.values() for u in split]
    lengths = [2 + k % 5 for k in range(len(utterances))]
    frames = [torch.eye(classes)[u.label[0]].expand(n, -1) for u, n in zip(utterances, lengths)]
    rows = [Row(u.id, u.path, None, None, n, u.label) for u, n in zip(utterances, lengths)]
    described = {**STATE, "downstream": f"vqpool_{task}", "datarc": {}, **manifest}
    corpus = Corpus(task, splits, (tuple("abcdefg"[:classes]),))
    return FakeStore(described, rows, random_codes(lengths), frames), corpus


def extract(out: Path, synthetic: dict[str, dict[str, str]], options: dict[str, list[str]]) -> dict[str, str]:
    """Folders of the stores of some tasks, with mfcc_vq and more ``options`` of `vqpool extract`."""
    for task, more in options.items():
        datarc = {**synthetic[task], "num_workers": 0}
        override = ",,".join(
            f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items()
        )
        argv = [
            "extract",
            "-u",
            "mfcc_vq",
            "-d",
            f"vqpool_{task}",
            "--store",
            str(out / task),
            "-o",
            override,
        ]
        assert main([*argv, *more]) == 0
    return {task: str(out / task) for task in options}
