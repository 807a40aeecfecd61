"""What is to be done for the upstreams and corpora that are given: hours of speech, disk, time, and the steps."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...codes.upstream import WithCodes
from ...corpora import UtteranceDataset, audio
from ...corpora.tasks import Task, registered
from ...errors import InputError
from ...runner import plugin
from ...runner.config import find
from ...runner.named import Named
from ...store import layout, manifest, rows
from ...store.encode import Encoder
from ...store.files import finished
from ...store.progress import Progress, duration
from .outline import POOLINGS, Settings, Store

MOST_SECONDS, LARGEST_SHARE = 60.0, 0.05
"""The speed is measured for a minute, or, of small corpora, on this share of the speech that is left."""
_HOUR = 3600 * audio.SAMPLE_RATE


def entries(upstreams: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """The functions that make upstreams with codes.

    Raises:
        InputError: an unknown name, or one that needs a checkpoint.
    """
    found = {name: plugin.entry_of(name) for name in upstreams}
    for name in upstreams:
        if name.endswith(("_local", "_url", "_custom")):
            raise InputError(
                f"-u {name}: needs -k, and so vqpool extract and vqpool benchmark, step by step."
            )
    return found


def make(
    made_by: Mapping[str, Callable[..., Any]],
    named: Named,
    settings: Settings,
    device: torch.device,
    tell: Callable[[str], None],
) -> list[Store]:
    """All stores that are to be there at the end; the plan is told before anything is written.

    Raises:
        InputError: a corpus that is not complete, or too little disk.
    """
    found = listings(named)
    tell(f"plan for {settings.output}; corpora of {named.file}")
    for line in _about_corpora(found):
        tell(line)
    stores: list[Store] = []
    for name, entry in made_by.items():
        upstream = entry(ckpt=None, model_config=None, refresh=False)
        upstream.eval().to(device)
        with torch.no_grad():
            states = upstream([torch.zeros(16000, device=device)])["hidden_states"]
        own = [store(name, upstream, states, *each, named, settings, device) for each in found.items()]
        stores += own
        tell(_about_stores(name, own, *measured(upstream, own, found, device)))
    tell(check_disk(stores, settings.output))
    tell("  tables come after the stores and are not in these times; each says how far it is")
    return stores


def listings(named: Named) -> dict[Task, rows.Listing]:
    """The utterances of each corpus that is named.

    Raises:
        InputError: none is, or one is not complete.
    """
    found: dict[Task, rows.Listing] = {}
    for task in registered():
        datarc = named.complete(task)
        if datarc is not None:
            config = find(task.downstream, None)[1]
            config["downstream_expert"]["datarc"] = datarc
            found[task] = rows.listing(task.downstream, config)
    if not found:
        raise InputError(f"{named.file}: names no corpus: add a section (vqpool corpora --help).")
    return found


def store(
    name: str,
    upstream: WithCodes,
    states: Sequence[torch.Tensor],
    task: Task,
    listing: rows.Listing,
    named: Named,
    settings: Settings,
    device: torch.device,
) -> Store:
    """The store of a corpus under an upstream, with ``states``, the hidden states of any utterance."""
    options = {
        "upstream": name,
        "ckpt": None,
        "upstream_model_config": None,
        "downstream": task.downstream,
        "datarc": named.complete(task),
        "poolings": manifest.checked(POOLINGS),
        "frames": True,
        "dtype": settings.dtype,
    }
    wanted = manifest.describe(options, upstream, states, listing, device)
    folder = settings.output / "stores" / name / task.name
    left = _left(folder, listing)
    lengths = upstream.code_lengths([listing.samples[row] for row in left])
    samples = sum(listing.samples[row] for row in left)
    return Store(task, name, folder, wanted, layout.disk_bytes(wanted, lengths), samples)


def _left(folder: Path, listing: rows.Listing) -> list[int]:
    shards = layout.shards(listing.samples)
    return [row for shard, there in zip(shards, finished(folder, len(shards))) if not there for row in shard]


def measured(
    upstream: WithCodes, stores: Sequence[Store], found: Mapping[Task, rows.Listing], device: torch.device
) -> tuple[float, float]:
    """Hours of speech per hour, on batches drawn from what is left, and the seconds that measuring took; else 0."""
    drawn = [
        (found[each.task], batch)
        for each in stores
        for batch in layout.batches(
            _left(each.folder, found[each.task]), found[each.task].samples, each.manifest["batch_seconds"]
        )
    ]
    random.Random(0).shuffle(drawn)
    most, done, begun = sum(each.samples_left for each in stores) * LARGEST_SHARE, 0, time.monotonic()
    if not drawn:
        return 0.0, 0.0
    encoder = Encoder(upstream, {name: {} for name in POOLINGS}, True, torch.float32)
    with Progress("measuring", MOST_SECONDS, "s") as progress:
        for number, (listing, batch) in enumerate(drawn):
            data = UtteranceDataset(listing.utterances, listing.gain_db)
            encoder([torch.from_numpy(data[row][0]).to(device) for row in batch])
            if number == 0 and len(drawn) > 1:
                begun = time.monotonic()  # the first batch also pays for the start
                continue
            done += sum(listing.samples[row] for row in batch)
            progress.advance(time.monotonic() - begun - progress.done)
            if done >= most or progress.done >= MOST_SECONDS:
                break
    seconds = time.monotonic() - begun
    return done / _HOUR / seconds * 3600, seconds


def _about_corpora(found: Mapping[Task, rows.Listing]) -> Iterator[str]:
    for task in registered():
        if task not in found:
            yield f"  {task.column}: not set, left out"
            continue
        listing = found[task]
        hours = sum(listing.samples) / _HOUR
        yield f"  {task.column}: {len(listing.utterances):,} utterances, {hours:,.2f} h of speech"


def _about_stores(name: str, stores: Sequence[Store], speed: float, seconds: float) -> str:
    left = sum(each.samples_left for each in stores) / _HOUR
    size = layout.in_words(sum(each.bytes_left for each in stores))
    if not left:
        return f"  stores of {name}: there already"
    speed_in_words = f"{speed:,.0f} h of speech per hour, measured for {seconds:.1f} s"
    to_go = f"about {duration(left / speed * 3600)} ({speed_in_words})"
    return f"  stores of {name}: {left:,.2f} h of speech left, {size} on disk, {to_go}"


def check_disk(stores: Sequence[Store], output: Path) -> str:
    """What the disk must hold, in words; InputError if it has too little room."""
    needed = sum(each.bytes_left for each in stores)
    layout.check_disk(output, needed, "give --dtype float16, or fewer upstreams")
    return f"  disk: {layout.in_words(needed)} needed, {layout.in_words(layout.free(output))} free"
