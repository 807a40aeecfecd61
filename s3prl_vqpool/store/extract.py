"""Filling a store: each rank its shards, in batches of similar length, read ahead by workers."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import audio
from ..corpora import UtteranceDataset
from ..corpora.base import Sample
from ..errors import InputError
from ..upstream import WithCodes
from . import layout, manifest
from .encode import Encoded, Encoder
from .files import DONE, Writer, about_shard, finished
from .rows import Listing, Row

Read = tuple[Tensor, list[int], list[str]]


def extract(
    upstream: WithCodes,
    listing: Listing,
    wanted: dict[str, Any],
    folder: Path,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> bool:
    """Write this rank's shards, those that are not there; the last rank to finish writes `done.json`.

    Shard i belongs to rank ``i % world``. What is written depends neither on ``world`` nor on interruptions.

    Args:
        upstream: in eval mode, on ``device``.
        wanted: the manifest.
        folder: the store's; made where it is not there.

    Returns:
        Whether the store is complete now (other ranks may be busy still).

    Raises:
        InputError: another configuration's store, too little disk, an utterance that is too short, audio that
            cannot be read, or a number that ``dtype`` cannot hold.
    """
    shards = layout.shards(listing.samples)
    lengths = _lengths(upstream, listing)
    there = finished(folder, len(shards))
    left = [row for shard, ready in zip(shards, there) if not ready for row in shard]
    layout.check_disk(folder, layout.disk_bytes(wanted, [lengths[row] for row in left]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made a folder ({error.strerror}): name another --store."
        ) from error
    writer = Writer(folder, rank, world)
    begun = manifest.agree(folder, wanted, writer)
    mine = [number for number in range(rank, len(shards), world) if not there[number]]
    if rank == 0:
        _say(listing, wanted, lengths, there)
    encoder = Encoder(upstream, wanted["poolings"], wanted["frames"], getattr(torch, wanted["dtype"]))
    plan = [layout.batches(shards[number], listing.samples, wanted["batch_seconds"]) for number in mine]
    read = _read(listing, [batch for batches in plan for batch in batches])
    with _progress(listing, shards, mine, rank) as progress, _threads(begun["threads"]):
        for number, batches in zip(mine, plan):
            encoded, rows = [], []
            for batch in batches:
                samples, sizes, hashes = next(read)
                found = encoder(samples.to(device).split(sizes))
                encoded += found
                for row, size, sha256, one in zip(batch, sizes, hashes, found):
                    rows.append(_row(listing, row, size, len(one["codes"]), sha256))
                    _check(one, rows[-1], wanted["dtype"])
                _advance(progress, sum(sizes))
            writer.write_shard(number, _joined(encoded, wanted["codebook_sizes"]), shards[number], rows)
    return _finish(folder, len(shards), writer)


def _finish(folder: Path, count: int, writer: Writer) -> bool:
    if not all(finished(folder, count)):
        return False
    if not (folder / DONE).exists():
        writer.write_json(DONE, {"shards": [about_shard(folder, number) for number in range(count)]})
    return True


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as the store was begun with: with another number, products are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lengths(upstream: WithCodes, listing: Listing) -> list[int]:
    lengths = upstream.code_lengths(listing.samples)
    for utterance, length in zip(listing.utterances, lengths):
        if length < upstream.min_frames:
            raise InputError(
                f"{utterance.path}: too short for {upstream.min_frames} frame(s) of this upstream: "
                "take it out of the list."
            )
    return lengths


def _say(listing: Listing, wanted: dict[str, Any], lengths: list[int], there: list[bool]) -> None:
    size = layout.in_words(layout.disk_bytes(wanted, lengths))
    continued = f", {sum(there)} there already" if any(there) else ""
    print(
        f"{len(listing.utterances):,} utterances, {wanted['samples'] / audio.SAMPLE_RATE / 3600:,.2f} h of speech; "
        f"shards: {len(there)}{continued}; about {size} on disk"
    )


def _progress(listing: Listing, shards: list[list[int]], mine: list[int], rank: int) -> tqdm:
    samples = sum(listing.samples[row] for number in mine for row in shards[number])
    return tqdm(
        total=samples / audio.SAMPLE_RATE / 3600,
        desc="extracting",
        disable=None if rank == 0 else True,
        file=sys.stderr,
        leave=False,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of speech [{elapsed}<{remaining}{postfix}]",
    )


def _advance(progress: tqdm, samples: int) -> None:
    hours = samples / audio.SAMPLE_RATE / 3600
    if not progress.disable:
        state = progress.format_dict
        speed = (state["n"] + hours) / max(state["elapsed"], 1e-3) * 3600
        progress.set_postfix_str(f"{speed:,.0f} h of speech per hour", refresh=False)
    progress.update(hours)


def _read(listing: Listing, batches: list[list[int]]) -> Iterator[Read]:
    """The samples of each batch, and their hashes; workers read ahead."""
    dataset = UtteranceDataset(listing.utterances, listing.gain_db)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=listing.workers,
        collate_fn=_hashed,
    )
    return iter(loader)


def _hashed(samples: Sequence[Sample]) -> Read:
    """All samples in one tensor (a worker hands over a file descriptor for each), their numbers, their hashes."""
    wavs = [wav.astype("<f4", copy=False) for wav, *_ in samples]
    hashes = [hashlib.sha256(np.ascontiguousarray(wav).data).hexdigest() for wav in wavs]
    return torch.from_numpy(np.concatenate(wavs)), [len(wav) for wav in wavs], hashes


def _row(listing: Listing, row: int, samples: int, length: int, sha256: str) -> Row:
    u = listing.utterances[row]
    return Row(u.id, u.path, u.start, u.frames, samples, length, u.label, sha256)


def _check(one: Encoded, row: Row, dtype: str) -> None:
    for name, tensor in one.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            way_out = (
                "give --dtype float32" if dtype == "float16" else "the upstream is at fault, or the audio"
            )
            raise InputError(f"{row.path}: {name} is not finite in {dtype}: {way_out}.")


def _joined(encoded: list[Encoded], sizes: Sequence[int]) -> dict[str, Tensor]:
    """A shard's tensors: codes [sum of T, G], frames [sum of T, D], vectors [n, layers, D]."""
    small = torch.int16 if max(sizes) <= 2**15 else torch.int32
    joined = {}
    for name in encoded[0]:
        parts = [one[name] for one in encoded]
        joined[name] = torch.stack(parts) if name.startswith("vectors.") else torch.cat(parts)
    return {**joined, "codes": joined["codes"].to(small)}
