"""An upstream's pass over the utterances of shards: in batches of similar length, read ahead by workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..corpora import UtteranceDataset, audio
from ..corpora.base import Sample
from ..errors import InputError
from . import fresh, layout
from .encode import Encoded
from .progress import Progress
from .rows import Listing, Row
from .threads import torch_threads

_Read = tuple[Tensor, list[int], list[str]]
#: A shard's number, its batches, and the stamp of each row's file before it is read.
_Planned = tuple[int, list[list[int]], dict[int, tuple[int, int] | None]]


@dataclass(frozen=True)
class Batch:
    """Utterances that are encoded together: their rows, waveforms [samples], and hashes of those."""

    rows: list[int]
    wavs: Sequence[Tensor]
    hashes: list[str]


def go_through(
    listing: Listing,
    shards: Iterable[tuple[int, Sequence[int]]],
    settings: Mapping[str, Any],
    device: torch.device,
    progress: Progress,
    encode: Callable[[Batch], list[Encoded]],
    write: Callable[[int, list[Encoded], list[Row]], None],
) -> None:
    """Encode the rows of each shard, and hand what was found to ``write`` with the shard's number.

    Args:
        shards: number and rows of each; asked for as far ahead as workers read.
        settings: the store's manifest; ``batch_seconds``, ``threads`` and ``dtype`` count here.
        device: the device for the waveforms.

    Raises:
        InputError: audio that cannot be read, or a number that ``dtype`` cannot hold.
    """
    plan: deque[_Planned] = deque()
    read = _read(listing, _batches(listing, shards, settings["batch_seconds"], plan))
    with torch_threads(settings["threads"]):
        for first in read:
            number, batches, stamps = plan.popleft()
            encoded, rows = [], []
            for k, batch in enumerate(batches):
                samples, sizes, hashes = next(read) if k else first
                found = encode(Batch(batch, samples.to(device).split(sizes), hashes))
                encoded += found
                for row, size, sha256, one in zip(batch, sizes, hashes, found):
                    rows.append(_row(listing, row, size, len(one["codes"]), sha256, stamps[row]))
                    _check(one, rows[-1], settings["dtype"])
                progress.advance(audio.hours(sum(sizes)), f"{progress.rate:,.0f} h of speech per hour")
            write(number, encoded, rows)


def _batches(
    listing: Listing, shards: Iterable[tuple[int, Sequence[int]]], seconds: float, plan: deque[_Planned]
) -> Iterator[list[int]]:
    """The batches of all shards; a shard is noted in ``plan`` when its first batch is asked for."""
    for number, rows in shards:
        batches = layout.batches(rows, listing.samples, seconds)
        plan.append((number, batches, {row: fresh.stamp(listing.utterances[row].path) for row in rows}))
        yield from batches


def progress(listing: Listing, shards: Iterable[Sequence[int]], name: str, show: bool) -> Progress:
    """Counts hours of speech of the rows of some shards."""
    samples = sum(listing.samples[row] for rows in shards for row in rows)
    return Progress(
        name,
        audio.hours(samples),
        "h of speech",
        show,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of speech [{elapsed}<{remaining}{postfix}]",
    )


def _read(listing: Listing, batches: Iterator[list[int]]) -> Iterator[_Read]:
    """The samples of each batch, and their hashes; workers read ahead."""
    dataset = UtteranceDataset(listing.utterances, listing.gain_db)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=listing.workers,
        collate_fn=_hashed,
    )
    return iter(loader)


def _hashed(samples: Sequence[Sample]) -> _Read:
    """All samples in one tensor (a worker hands over a file descriptor for each), their numbers, their hashes."""
    wavs = [wav.astype("<f4", copy=False) for wav, *_ in samples]
    hashes = [fresh.digest(wav) for wav in wavs]
    return torch.from_numpy(np.concatenate(wavs)), [len(wav) for wav in wavs], hashes


def _row(
    listing: Listing, row: int, samples: int, length: int, sha256: str, stamp: tuple[int, int] | None
) -> Row:
    u = listing.utterances[row]
    return Row(u.id, u.path, u.start, u.frames, samples, length, u.label, sha256, *(stamp or ()))


def _check(one: Encoded, row: Row, dtype: str) -> None:
    for name, tensor in one.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            way_out = (
                "give --dtype float32" if dtype == "float16" else "the upstream is at fault, or the audio"
            )
            raise InputError(f"{row.path}: {name} is not finite in {dtype}: {way_out}.")
