"""Inspects a store: what it holds, and whether its files are undamaged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import pooling
from ..corpora import audio
from ..errors import InputError
from ..files import sha256
from ..pooling import Counts
from . import layout, training
from .files import DONE, STATISTICS, about_part, again, index_name, part_index_name, part_name, read_json
from .reader import Store

#: A file, the hash of its bytes (None if it is incomplete), and how to mend it.
Check = tuple[Path, str | None, str]


def info(store: Store) -> Iterator[str]:
    """Lines that say what a store holds."""
    manifest = store.manifest
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    hours = audio.hours(manifest["samples"])
    yield f"{len(store.utterances):,} utterances of {manifest['downstream']}, {hours:,.2f} h of speech"
    yield f"{layout.in_words(size)} in {manifest['shards']} shards"
    for key, value in manifest.items():
        if key not in ("utterances", "downstream", "samples", "shards", "added"):
            yield f"{key:17} {_plain(value)}"
    for name, made in store.added.items():
        yield f"{'added':17} {' '.join([name, _plain({k: v for k, v in made.items() if v is not None})]).strip()}"


def damaged(store: Store) -> Iterator[str]:
    """A line for each file of a complete store whose content has changed since it was written."""
    checks = [*_shards(store.folder), *_parts(store)]
    for path, expected, remedy in tqdm(checks, desc="verifying", leave=False, disable=None, file=sys.stderr):
        if expected is None or not path.is_file():
            yield f"{path}: missing; {remedy}"
        elif sha256(path) != expected:
            yield f"{path}: its bytes are not those that were written; {remedy}"
    for name in _counted(store)[:1]:  # all have the same
        if _fingerprint(store.folder) != store.added[name]["counts"]:
            path = store.folder / STATISTICS
            yield f"{path}: missing, or not what was written; remove {path}, and {_again(store, name)}"


def files(store: Store) -> int:
    """How many files `damaged` looks at."""
    return len([*_shards(store.folder), *_parts(store)]) + bool(_counted(store))


def _counted(store: Store) -> list[str]:
    return [name for name, made in store.added.items() if "counts" in made]


def _shards(folder: Path) -> Iterator[Check]:
    done = read_json(folder / DONE)
    if "rows" in done:  # not in stores of earlier versions
        rows = folder / done["rows"]["file"]
        yield rows, done["rows"]["sha256"], again(rows)
    for number, entry in enumerate(done["shards"]):
        index = folder / index_name(number)
        yield folder / entry["file"], entry["sha256"], again(index)
        yield index, entry.get("index_sha256"), again(index)


def _parts(store: Store) -> Iterator[Check]:
    for name, made in store.added.items():
        for number in range(len(store.shards)):
            about = about_part(store.folder, number, name)
            expected = about["sha256"] if about and about.get("made") == made else None
            remedy = f"remove {store.folder / part_index_name(number, name)}, and {_again(store, name)}"
            yield store.folder / part_name(number, name), expected, remedy


def _again(store: Store, name: str) -> str:
    options = [f"{o.name}={store.added[name][o.name]}" for o in pooling.method(name).options]
    given = f" --option {' '.join(options)}" if options else ""
    return f"vqpool store add-pooling {store.folder} {name}{given} makes it again"


def _fingerprint(folder: Path) -> str | None:
    try:
        return training.fingerprint(Counts.load(folder / STATISTICS))
    except InputError:
        return None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
