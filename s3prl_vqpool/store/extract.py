"""Extraction: each rank writes its shards of a store."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..codes.upstream import WithCodes
from ..corpora import audio
from ..corpora.table import export
from ..errors import InputError
from ..files import alone, sha256
from . import fresh, index, layout, manifest
from .encode import Encoded, Encoder
from .files import (
    DONE,
    MANIFEST,
    Writer,
    about_all,
    about_data,
    finished,
    index_name,
    lock_name,
    read_index,
    read_json,
    remove_left,
)
from .passes import go_through, progress
from .rows import Listing, Row
from .share import Taken, others, own

SHARDS_OF_RANK = 20
"""With so many shards for each, processes that share a list wait for less than 5 % of their time."""
LESS = "name another --store, or ask for less (--dtype float16, fewer --poolings, no --frames)"


def extract(
    upstream: WithCodes,
    listing: Listing,
    wanted: dict[str, Any],
    folder: Path,
    device: torch.device,
    rank: int,
    world: int,
) -> bool:
    """Write this rank's missing shards, then those that are left of others'. Who finishes last writes `done.json`.

    Shard i belongs to rank ``i % world`` until another rank takes it. The result depends neither on ``world`` nor on
    interruptions, nor on who takes what.

    Args:
        upstream: in eval mode, on ``device``.
        wanted: the manifest.
        folder: the store's; made if it does not exist.

    Returns:
        Whether the store is complete now (other ranks may still be working).

    Raises:
        InputError: another configuration's store, too little disk, an utterance that is too short, audio that
            cannot be read, a number that ``dtype`` cannot hold, or another process of this rank.
    """
    _require_audio(folder)
    shards = layout.shards(listing.samples)
    lengths = _lengths(upstream, listing)
    there = finished(folder, len(shards))
    left = (row for shard, ready in zip(shards, there) if not ready for row in shard)
    needed = layout.disk_bytes(wanted, array("q", (lengths[row] for row in left)))
    layout.check_disk(folder, needed, LESS)

    def is_there(number: int) -> bool:
        return (folder / index_name(number)).exists()

    with alone(folder, lock_name(rank)) as lock, Taken(folder, is_there) as taken:
        writer = Writer(folder, rank, world)
        begun = manifest.agree(folder, wanted, writer)
        if rank == 0:
            export.keep(folder, listing.divisions)
            _say(listing, wanted, lengths, there, world)
        poolings: dict[str, dict] = {name: {} for name in wanted["poolings"]}
        encoder = Encoder(
            upstream, poolings, wanted["frames"], getattr(torch, wanted["dtype"]), wanted["precision"]
        )

        def write(number: int, encoded: list[Encoded], rows: list[Row]) -> None:
            writer.write_shard(number, _joined(encoded, wanted["codebook_sizes"]), shards[number], rows)
            taken.leave(number)

        def fill(name: str, numbers: Iterable[int], expected: Iterable[Sequence[int]]) -> None:
            with progress(listing, expected, name, rank == 0) as counted:
                given = ((number, shards[number]) for number in numbers)
                go_through(listing, given, begun, device, counted, lambda batch: encoder(batch.wavs), write)

        mine = (shards[number] for number in range(rank, len(shards), world) if not there[number])
        fill("extracting", own(rank, world, len(shards), taken.take), mine)
        if lock and lock.real and world > 1:
            for number in others(finished(folder, len(shards)), taken.take):
                fill("extracting for others", [number], [shards[number]])
        complete = _finish(folder, begun, writer)
        if complete and lock and lock.real:
            remove_left(folder, rank)
        return complete


def _require_audio(folder: Path) -> None:
    """Raise InputError if the audio of finished shards was deleted or changed."""
    if (folder / MANIFEST).is_file():
        begun = read_json(folder / MANIFEST)
        there = finished(folder, begun["shards"])
        rows = (row for number, ready in enumerate(there) if ready for row in read_index(folder, number)[1])
        fresh.require(folder, rows, begun["gain_db"])


def _finish(folder: Path, described: Mapping[str, Any], writer: Writer) -> bool:
    """Write the rows of all shards, and then `DONE`, once all are there."""
    count = described["shards"]
    if not all(finished(folder, count)):
        return False
    try:
        before = read_json(folder / DONE)
    except InputError:
        before = {}
    rows = list(index.pieces(index.gathered(folder, described)))
    about = about_data(index.ROWS, *rows)
    if not (folder / index.ROWS).exists() or sha256(folder / index.ROWS) != about["sha256"]:
        writer.write(index.ROWS, *rows)
    now = {**about_all(folder, count, before), "rows": about}
    if now != before:
        writer.write_json(DONE, now)
    return True


def _lengths(upstream: WithCodes, listing: Listing) -> Sequence[int]:
    lengths = array("q", upstream.code_lengths(listing.samples))
    for utterance, length in zip(listing.utterances, lengths):
        if length < upstream.min_frames:
            raise InputError(
                f"{utterance.path}: too short for {upstream.min_frames} frame(s) of this upstream: "
                "take it out of the list."
            )
    return lengths


def _say(
    listing: Listing, wanted: dict[str, Any], lengths: Sequence[int], there: list[bool], world: int
) -> None:
    size = layout.in_words(layout.disk_bytes(wanted, lengths))
    continued = f", {sum(there)} there already" if any(there) else ""
    print(
        f"{len(listing.utterances):,} utterances, {audio.hours(wanted['samples']):,.2f} h of speech; "
        f"shards: {len(there)}{continued}; about {size} on disk"
    )
    if world > 1 and len(there) < SHARDS_OF_RANK * world:
        most = max(len(there) // SHARDS_OF_RANK, 1)
        print(
            f"{world} processes share {len(there)} shards: some will wait at the end, of {most} hardly any would"
        )


def _joined(encoded: list[Encoded], sizes: Sequence[int]) -> dict[str, Tensor]:
    """A shard's tensors: codes [sum of T, G], frames [sum of T, D], vectors [n, layers, D]."""
    small = torch.int16 if max(sizes) <= 2**15 else torch.int32
    joined = {}
    for name in encoded[0]:
        parts = [one[name] for one in encoded]
        joined[name] = torch.stack(parts) if name.startswith("vectors.") else torch.cat(parts)
    return {**joined, "codes": joined["codes"].to(small)}
