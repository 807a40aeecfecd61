"""The loader of `-d vqpool_table`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from ...errors import InputError
from .. import checks
from ..base import SPLITS, Corpus, Utterance, Utterances
from ..packed import repeated
from .division import Plan, divide, in_order, plan
from .records import Record, columns, records
from .sources import Source, read


def folds(datarc: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the folds of a table, the default first; empty where it has one division."""
    source, used, made = _read(datarc)
    if made.by == "split":
        return used["split"] if len(used["split"]) > 1 else ()
    if made.drawn:
        return tuple(f"fold{number}" for number in range(1, (made.folds or 0) + 1))
    return in_order(row.cells.get(used["fold"][0], "") for row in source.rows)


def load(datarc: Mapping[str, Any], fold: str) -> Corpus:
    """The corpus of a table by the keys of a config's `datarc`.

    Classes are sorted. The corpus is named by its table.

    Raises:
        InputError: as `sources.read`, `records.records` and `division.divide`; audio that two splits
            share; a label that train does not have.
    """
    source, used, made = _read(datarc)
    found = records(source, used, datarc.get("root"))
    division = divide(found, made, used, source.path)[fold]
    if not datarc.get("allow_shared_audio", False):
        _require_apart(found, division)
    classes = tuple(
        tuple(sorted({record.labels[slot] for record in found})) for slot in range(len(used["label"]))
    )
    index = [{name: place for place, name in enumerate(names)} for names in classes]
    splits = {split: Utterances() for split in SPLITS}
    for record, split in zip(found, division):
        if split is not None:
            label = tuple(places[name] for places, name in zip(index, record.labels))
            excerpt = record.start, record.frames
            splits[split].append(
                Utterance(Path(record.path), label, record.id, record.weight, *excerpt, record.speaker)
            )
    slots = used["label"] if len(used["label"]) > 1 else ()
    known = {name for names in classes for name in names}
    _require_trained(found, division, checks.allowed(datarc.get("allow_missing_classes", False), known))
    del found
    return Corpus(str(source.path), splits, classes, gain_db(datarc), slots, made.drawn)


def gain_db(datarc: Mapping[str, Any]) -> float:
    """`datarc.gain_db`, the gain in dB that is applied when audio is read (Speech Commands: -3)."""
    value = datarc.get("gain_db", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -100 <= value <= 100:
        raise InputError(f"datarc.gain_db: expected a number of dB from -100 to 100, but got {value!r}.")
    return float(value)


def _read(datarc: Mapping[str, Any]) -> tuple[Source, dict[str, tuple[str, ...]], Plan]:
    for key in ("table", "root"):
        if not isinstance(datarc.get(key), (str, Path, type(None))):
            raise InputError(f"datarc.{key}: expected a path, but got {datarc[key]!r}.")
    source = read(Path(datarc["table"]))
    used = columns(source, datarc.get("columns") or {})
    return source, used, plan(datarc.get("split") or {}, used, source.path)


def _require_trained(
    found: Sequence[Record], division: Sequence[str | None], allowed: Collection[str]
) -> None:
    """InputError, with its row, for a label that is in dev or test alone, unless it is ``allowed``."""
    trained = {
        label
        for record, split in zip(found, division)
        if split == "train"
        for label in enumerate(record.labels)
    }
    for record, split in zip(found, division):
        for slot, name in enumerate(record.labels):
            if split is not None and (slot, name) not in trained and name not in allowed:
                raise InputError(
                    f"{record.where}: the label {name!r} is in {split}, but not in train. Take it out, or allow it: "
                    f"{checks.ALLOW}: true, or a list of such classes."
                )


def _require_apart(found: Sequence[Record], division: Sequence[str | None]) -> None:
    """InputError for audio that two splits share; segments that overlap within one split are fine."""
    of_file: dict[str, list[int]] = defaultdict(list)
    for place, record in compress(enumerate(found), repeated(record.path for record in found)):
        if division[place] is not None:
            of_file[record.path].append(place)
    for path in sorted(of_file):
        furthest: dict[str | None, Record] = {}
        for place in sorted(of_file[path], key=lambda place: found[place].span):
            record, split = found[place], division[place]
            for other, last in furthest.items():
                if other != split and last.span[1] > record.span[0]:
                    raise InputError(
                        f"{record.where}: {path} is in {split} here and in {other} in {last.where}. Take one of "
                        "them out, or allow it: datarc.allow_shared_audio: true."
                    )
            if split not in furthest or furthest[split].span[1] < record.span[1]:
                furthest[split] = record
