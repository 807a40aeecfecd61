"""Extraction: each rank writes its shards of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from .files import DONE, MANIFEST, Writer, about_all, about_data, finished, lock_name, read_index, read_json
from .passes import go_through
from .rows import Listing, Row

LESS = "name another --store, or ask for less (--dtype float16, fewer --poolings, no --frames)"


def extract(
    upstream: WithCodes,
    listing: Listing,
    wanted: dict[str, Any],
    folder: Path,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> bool:
    """Write this rank's missing shards. The rank that finishes last writes `done.json`.

    Shard i belongs to rank ``i % world``. The result depends neither on ``world`` nor on interruptions.

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
    left = [row for shard, ready in zip(shards, there) if not ready for row in shard]
    needed = layout.disk_bytes(wanted, [lengths[row] for row in left])
    layout.check_disk(folder, needed, LESS)
    with alone(folder, lock_name(rank)):
        writer = Writer(folder, rank, world)
        begun = manifest.agree(folder, wanted, writer)
        if rank == 0:
            export.keep(folder, listing.divisions)
            _say(listing, wanted, lengths, there)
        poolings: dict[str, dict] = {name: {} for name in wanted["poolings"]}
        encoder = Encoder(upstream, poolings, wanted["frames"], getattr(torch, wanted["dtype"]))

        def write(number: int, encoded: list[Encoded], rows: list[Row]) -> None:
            writer.write_shard(number, _joined(encoded, wanted["codebook_sizes"]), shards[number], rows)

        mine = {number: shards[number] for number in range(rank, len(shards), world) if not there[number]}
        go_through(listing, mine, begun, device, rank == 0, lambda batch: encoder(batch.wavs), write)
        return _finish(folder, begun, writer)


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
    rows = index.data(folder, described)
    about = about_data(index.ROWS, rows)
    if not (folder / index.ROWS).exists() or sha256(folder / index.ROWS) != about["sha256"]:
        writer.write(index.ROWS, rows)
    now = {**about_all(folder, count, before), "rows": about}
    if now != before:
        writer.write_json(DONE, now)
    return True


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
        f"{len(listing.utterances):,} utterances, {audio.hours(wanted['samples']):,.2f} h of speech; "
        f"shards: {len(there)}{continued}; about {size} on disk"
    )


def _joined(encoded: list[Encoded], sizes: Sequence[int]) -> dict[str, Tensor]:
    """A shard's tensors: codes [sum of T, G], frames [sum of T, D], vectors [n, layers, D]."""
    small = torch.int16 if max(sizes) <= 2**15 else torch.int32
    joined = {}
    for name in encoded[0]:
        parts = [one[name] for one in encoded]
        joined[name] = torch.stack(parts) if name.startswith("vectors.") else torch.cat(parts)
    return {**joined, "codes": joined["codes"].to(small)}
