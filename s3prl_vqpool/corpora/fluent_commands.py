"""Intent classification on Fluent Speech Commands, as S3PRL's ``downstream/fluent_commands`` does it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, unknown_name
from .base import Corpus, Utterance
from .folders import FLUENT_COMMANDS, Listing, corpus_root, missing_files, read_list

SLOTS = ("action", "object", "location")
_FILES = {"train": "train", "dev": "valid", "test": "test"}
_PURPOSE = f"a CSV with the columns path, {', '.join(SLOTS)}"


def fluent_commands(root: str | Path, labels: str = "slots") -> Corpus:
    """Fluent Speech Commands with three slots (``slots``) or one class per combination (``intents31``).

    Classes are numbered by first appearance in train. Combinations that only dev or test hold come after
    them, named ``action|object|location``; a slot value that train does not hold is an error. Speakers are those of
    the column ``speakerId``, if there is one.

    Raises:
        InputError: a folder that is not the corpus, a malformed row, a value unknown to train, or a
            missing file (the first one named, all counted).
    """
    if labels not in ("slots", "intents31"):
        raise unknown_name("Fluent Speech Commands label set", labels, ("slots", "intents31"))
    root = corpus_root(root, FLUENT_COMMANDS)
    rows = {split: list(_rows(root, root / "data" / f"{name}_data.csv")) for split, name in _FILES.items()}
    classes = tuple(_by_appearance(row.values[slot] for row in rows["train"]) for slot in range(len(SLOTS)))
    _require_known(rows, classes, root)
    if labels == "intents31":
        classes = (_by_appearance("|".join(row.values) for split in _FILES for row in rows[split]),)
    index = [{name: position for position, name in enumerate(names)} for names in classes]

    def utterance(row: _Row) -> Utterance:
        named = row.values if labels == "slots" else ("|".join(row.values),)
        label = tuple(table[name] for table, name in zip(index, named))
        return Utterance(row.path, label, row.path.stem, speaker=row.speaker)

    splits = {split: [utterance(row) for row in rows[split]] for split in _FILES}
    return Corpus("fluent_commands", splits, classes, slots=SLOTS if labels == "slots" else ())


def load(datarc: Mapping[str, Any], _: str) -> Corpus:
    """`fluent_commands` by the keys of a config's `datarc`."""
    return fluent_commands(datarc["file_path"], datarc.get("labels", "slots"))


class _Row(NamedTuple):
    """A row of a list: the number of its line, the audio file, who speaks, the slots' values."""

    number: int
    path: Path
    speaker: str
    values: tuple[str, ...]


def _rows(root: Path, table: Path) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(read_list(table, _PURPOSE), newline=""), strict=True)
    listing, missing, total = Listing(), [], 0
    try:
        absent = [column for column in ("path", *SLOTS) if column not in (reader.fieldnames or ())]
        if absent:
            raise InputError(f"{table}: no column {absent[0]!r}. Expected {_PURPOSE}.")
        for row in reader:
            total += 1
            where = f"line {reader.line_num}"
            values = [row[column] for column in ("path", *SLOTS)]
            if not all(values) or None in row:
                raise InputError(f"{table}, {where}: Expected a value in each of path, {', '.join(SLOTS)}.")
            path = root / values[0]
            if path not in listing:
                missing.append((where, path))
            yield _Row(reader.line_num, path, row.get("speakerId") or "", tuple(values[1:]))
    except csv.Error as error:
        raise InputError(
            f"{table}, after line {reader.line_num}: malformed CSV ({error}). Expected {_PURPOSE}."
        ) from error
    if missing:
        raise missing_files(table, missing, total)


def _by_appearance(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _require_known(rows: dict[str, list[_Row]], classes: tuple[tuple[str, ...], ...], root: Path) -> None:
    for split in ("dev", "test"):
        for row in rows[split]:
            for slot, value, known in zip(SLOTS, row.values, classes):
                if value not in known:
                    raise InputError(
                        f"{root / 'data' / _FILES[split]}_data.csv, line {row.number}: {slot} {value!r} is not in"
                        f" train_data.csv. Expected one of: {', '.join(known)}."
                    )
