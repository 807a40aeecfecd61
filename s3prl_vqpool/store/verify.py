"""Looking at a store: what it holds, and whether its bytes are those that were written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import audio
from ..files import sha256
from . import layout
from .files import DONE, finished, index_name, read_json
from .reader import Store


def info(store: Store) -> Iterator[str]:
    """Lines that say what a store holds."""
    manifest = store.manifest
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    hours = sum(utterance.samples for utterance in store.utterances) / audio.SAMPLE_RATE / 3600
    yield f"{len(store.utterances):,} utterances of {manifest['downstream']}, {hours:,.2f} h of speech"
    yield f"{layout.in_words(size)} in {manifest['shards']} shards"
    for key, value in manifest.items():
        if key not in ("utterances", "downstream", "samples", "shards"):
            yield f"{key:17} {_plain(value)}"


def damaged(folder: Path) -> Iterator[str]:
    """A line for each shard of a complete store whose bytes are not those that `done.json` names."""
    done = read_json(folder / DONE)["shards"]
    there = finished(folder, len(done))
    for number, entry in enumerate(tqdm(done, desc="verifying", leave=False, disable=None, file=sys.stderr)):
        path = folder / entry["file"]
        if not path.is_file() or not there[number]:
            yield f"{path}: missing; {_remedy(folder, number)}"
        elif sha256(path) != entry["sha256"]:
            yield f"{path}: its bytes are not those that were written; {_remedy(folder, number)}"


def _remedy(folder: Path, number: int) -> str:
    return f"remove {folder / index_name(number)}, and the same vqpool extract makes it again"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
