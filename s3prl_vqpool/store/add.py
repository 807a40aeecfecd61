"""Adds poolings to a store. Their vectors go into separate files beside the shards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from .. import pooling
from ..codes.precision import FLOAT32
from ..codes.upstream import WithCodes
from ..corpora import Utterance, audio
from ..corpora.base import Utterances
from ..errors import InputError
from ..files import alone
from ..pooling.point import moments
from ..pooling.registry import given_options
from ..runner.config import Section, workers
from ..runner.plugin import entry_of
from . import layout, training
from .encode import Encoded, Encoder, Poolings, weights_of
from .files import MANIFEST, Writer, about_part, lock_name, read_json, remove_left
from .passes import Batch, go_through, progress
from .reader import Store
from .rows import Listing, Row
from .share import Taken, others, own

#: Vectors [n, layers, D] of a shard, for each pooling.
Vectors = Mapping[str, Tensor]
#: Makes the vectors of shards: whose they are, for the progress, their numbers, and those that are expected.
Fill = Callable[[str, Iterable[int], Sequence[int]], None]


def add(
    store: Store, names: Sequence[str], options: Mapping[str, Any], rank: int = 0, world: int = 1
) -> bool:
    """Write the vectors of poolings without a map for this rank's shards, then for those that are left of others'.

    Weights come from the stored codes. Vectors of every layer need frames of every layer. If the upstream has one
    layer and its frames are stored, these are used; otherwise the upstream runs again. Counts of
    the training split, where a pooling needs them, are in the store from then on. The manifest lists the poolings
    once all their vectors are there; until then readers do not see them.

    Args:
        names: as `manifest.checked` gives them.
        options: options of the poolings that are not to have their defaults; all that take one get it.

    Returns:
        Whether all of them are there now (other ranks may still be working).

    Raises:
        InputError: a pooling that is there with other options; an option that none of ``names`` takes; a corpus,
            checkpoint or audio that is not as it was; too little disk; a device that is not here; another process
            of this rank.
    """
    values = {
        name: pooling.method(name).with_defaults(own) for name, own in given_options(names, options).items()
    }
    store.require_audio()
    with alone(store.folder, lock_name(rank)) as lock:
        writer = Writer(store.folder, rank, world)
        names = [name for name in names if name not in store.manifest["poolings"]]
        poolings, made = _arguments(store, {name: values[name] for name in names}, writer)
        _agree(store, made)
        numbers = range(len(store.shards))

        def lacking(number: int) -> list[str]:
            return [name for name in names if not _there(store, number, name, made[name])]

        missing = {number: absent for number in numbers if (absent := lacking(number))}
        mine = {number: absent for number, absent in missing.items() if number % world == rank}
        left = sum(
            len(store.shards[number]) * layout.vector_bytes(store.manifest, absent)
            for number, absent in mine.items()
        )
        layout.check_disk(store.folder, left, "add fewer poolings at once")
        with Taken(store.folder, lambda number: not lacking(number)) as taken:

            def write(number: int, vectors: Vectors) -> None:
                for name in lacking(number):
                    writer.write_part(number, name, vectors[name], made[name])
                taken.leave(number)

            if missing:
                needed = {name: poolings[name] for absent in missing.values() for name in absent}
                fill = _filling(store, needed, write, rank, list(mine))
                fill("", own(rank, world, len(numbers), taken.take), list(mine))
                if lock and lock.real and world > 1:
                    for number in others([not lacking(each) for each in numbers], taken.take):
                        fill(" for others", [number], [number])
        if any(map(lacking, numbers)):
            return False
        _list(made, writer)
        if lock and lock.real:
            remove_left(store.folder, rank)
        return True


def _agree(store: Store, made: Mapping[str, Mapping[str, Any]]) -> None:
    """InputError for a pooling that the manifest lists with other options or statistics."""
    for name, now in made.items():
        before = store.added.get(name, now)
        for key in now:
            if before[key] != now[key]:
                raise InputError(
                    f"{store.folder}: has {name} with {key} {before[key]!r}, but now it is {now[key]!r}: give the same "
                    "again, or add it to another store."
                )


def _list(made: Mapping[str, Any], writer: Writer) -> None:
    content = read_json(writer.folder / MANIFEST)
    added = {**content.get("added", {}), **made}
    if content.get("added", {}) != added:
        writer.write_json(MANIFEST, {**content, "added": added})


def _arguments(
    store: Store, options: Mapping[str, dict[str, Any]], writer: Writer
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """For each pooling, the keyword arguments of `pooling.weights`, and what is recorded of them."""
    counted = [name for name in options if pooling.method(name).needs_counts]
    given: dict[str, Any] = {}
    recorded: dict[str, Any] = {}
    if counted:
        utterances, fold = training.split(store)
        given["counts"] = training.obtain(store, utterances, writer)
        recorded = {"counts": training.fingerprint(given["counts"]), "fold": fold}
    poolings = {name: {**(given if name in counted else {}), **own} for name, own in options.items()}
    made = {name: {**(recorded if name in counted else {}), **own} for name, own in options.items()}
    return poolings, made


def _there(store: Store, number: int, name: str, made: Mapping[str, Any]) -> bool:
    """Whether a shard's vectors are there and were made with exactly these options."""
    about = about_part(store.folder, number, name)
    return about is not None and about.get("made") == made


def _filling(
    store: Store, needed: Poolings, write: Callable[[int, Vectors], None], rank: int, mine: Sequence[int]
) -> Fill:
    """What hands the vectors of shards to ``write``; ``mine`` are those of this rank that lack any."""
    if store.manifest["layers"] == 1 and store.manifest["frames"]:
        return _from_frames(store, needed, write)
    return _from_upstream(store, needed, write, rank, mine)


def _from_frames(store: Store, needed: Poolings, write: Callable[[int, Vectors], None]) -> Fill:
    manifest, utterances = store.manifest, store.utterances
    dtype, samples = getattr(torch, manifest["dtype"]), [row.samples for row in utterances]

    def fill(whose: str, numbers: Iterable[int], expected: Sequence[int]) -> None:
        title = f"pooling stored frames{whose}"
        for number in tqdm(numbers, title, len(expected), leave=False, disable=None):
            parts: dict[str, list[Tensor]] = {name: [] for name in needed}
            for rows in layout.batches(store.shards[number], samples, manifest["batch_seconds"]):
                frames = pad_sequence([store.frames(row) for row in rows], batch_first=True)  # [B, T, D]
                codes = pad_sequence([store.codes(row) for row in rows], batch_first=True)
                lengths = torch.tensor([utterances[row].length for row in rows])
                batch = codes, lengths, [samples[row] for row in rows], manifest["downsample_rate"]
                for name, options in needed.items():
                    weights = weights_of(name, options, *batch)
                    parts[name].append(moments(pooling.method(name), frames, weights))
            write(number, {name: torch.cat(each)[:, None].to(dtype) for name, each in parts.items()})

    return fill


def _from_upstream(
    store: Store,
    needed: Poolings,
    write: Callable[[int, Vectors], None],
    rank: int,
    mine: Sequence[int],
) -> Fill:
    listing, device = _listing(store), _device(store)
    if rank == 0 and mine:
        hours = audio.hours(sum(listing.samples[row] for number in mine for row in store.shards[number]))
        print(
            f"{store.folder} has no frames of every layer: running {store.manifest['upstream']} again over "
            f"{hours:,.2f} h of speech",
            file=sys.stderr,
        )
    dtype, precision = getattr(torch, store.manifest["dtype"]), store.manifest.get("precision", FLOAT32)
    encoder = Encoder(_upstream(store, device), needed, False, dtype, precision)

    def encode(batch: Batch) -> list[Encoded]:
        for row, sha256 in zip(batch.rows, batch.hashes):
            if sha256 != store.utterances[row].sha256:
                raise InputError(
                    f"{store.utterances[row].path}: is not the audio that {store.folder} was extracted from: put that "
                    "back, or extract to another --store."
                )
        return encoder(batch.wavs, [store.codes(row) for row in batch.rows])

    def joined(number: int, encoded: list[Encoded], rows: list[Row]) -> None:
        write(number, {name: torch.stack([one[f"vectors.{name}"] for one in encoded]) for name in needed})

    def fill(whose: str, numbers: Iterable[int], expected: Sequence[int]) -> None:
        shards = ((number, store.shards[number]) for number in numbers)
        hours = (store.shards[number] for number in expected)
        with progress(listing, hours, f"extracting{whose}", rank == 0) as counted:
            go_through(listing, shards, store.manifest, device, counted, encode, joined)

    return fill


def _listing(store: Store) -> Listing:
    """The utterances of the store, row by row."""
    return Listing(
        Utterances(
            Utterance(row.path, row.label, row.id, start=row.start, frames=row.frames)
            for row in store.utterances
        ),
        [row.samples for row in store.utterances],
        store.manifest["gain_db"],
        workers(Section("datarc", store.manifest["datarc"])),
    )


def _device(store: Store) -> torch.device:
    """The device that the store was extracted on."""
    if store.manifest["device"] == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"{store.folder}: was extracted on cuda, which this torch does not see: add poolings on a machine that "
            "has one."
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _upstream(store: Store, device: torch.device) -> WithCodes:
    """The store's upstream, with the weights that it was extracted with."""
    manifest = store.manifest
    upstream = entry_of(manifest["upstream"])(
        ckpt=manifest["ckpt"], model_config=manifest["upstream_model_config"], refresh=False
    )
    upstream.eval().to(device)
    if upstream.fingerprint() != manifest["fingerprint"]:
        raise InputError(
            f"{manifest['ckpt'] or manifest['upstream']}: has other weights than {store.folder} was extracted with: "
            "put those back, or extract to another --store."
        )
    return upstream
