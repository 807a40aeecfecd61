"""Any corpus as a table, as `vqpool corpora export` writes it, and as experiments and stores keep what was drawn."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import write_text
from .. import audio
from ..base import Corpus, Utterance
from .sources import read

KEPT = "split.csv"
"""What was drawn, in the folder of an experiment or a store."""
_UNSAID = {"start": "", "end": "", "speaker": "", "weight": "1"}
"""Columns that are left out where all rows have this."""


def as_table(divisions: Mapping[str, Corpus]) -> str:
    """CSV of a corpus: path, label (or a column for each slot), split, id; start, end, speaker, weight where needed.

    Args:
        divisions: the corpus divided by each of its folds. With several, each has a column of its name in place of
            split. Without folds one, named "".

    A random excerpt (Speech Commands' `_silence_` in training) becomes the consecutive windows of its file, which share
    its weight, since a table names fixed segments; ``~K`` is added to their ids.
    """
    rows: dict[tuple, dict[str, str]] = {}
    for fold, corpus in divisions.items():
        for split, utterances in corpus.splits.items():
            for utterance in _fixed(utterances):
                key = (str(utterance.path), utterance.start, utterance.frames, utterance.id)
                rows.setdefault(key, _row(corpus, utterance))[fold or "split"] = split
    first = next(iter(divisions.values()))
    needed = {name for row in rows.values() for name, value in row.items() if value != _UNSAID.get(name)}
    columns = [
        "path",
        "start",
        "end",
        *_slots(first),
        *(fold or "split" for fold in divisions),
        "id",
        "speaker",
        "weight",
    ]
    columns = [name for name in columns if name in needed or name not in _UNSAID]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()


def reading(divisions: Mapping[str, Corpus]) -> dict[str, Any]:
    """Entries of `datarc` without which the table of a corpus is not read as the corpus is."""
    first = next(iter(divisions.values()))
    named: dict[str, Any] = {"label": list(first.slots)} if first.slots else {}
    named |= {"split": list(divisions)} if len(divisions) > 1 else {}
    entries = {"columns": named, "gain_db": first.gain_db, "allow_shared_audio": _shared(first)}
    return {key: value for key, value in entries.items() if value}


def keep(folder: Path, divisions: Mapping[str, Corpus]) -> None:
    """Write what was drawn into ``folder``, once. Later calls only compare; nothing is done if nothing was drawn.

    Raises:
        InputError: as `require_kept`.
    """
    if not any(corpus.drawn for corpus in divisions.values()):
        return
    if (folder / KEPT).exists():
        require_kept(folder, divisions)
    else:
        write_text(folder / KEPT, as_table(divisions))


def require_kept(folder: Path, divisions: Mapping[str, Corpus]) -> None:
    """Compare what is drawn now with what ``folder`` says was drawn before; without such a file do nothing.

    Raises:
        InputError: an utterance that is in another split, or in none, now or then; names the first.
    """
    if not (folder / KEPT).exists():
        return
    rows = read(folder / KEPT).rows
    for fold, corpus in divisions.items():
        cells = (row.cells for row in rows)
        before = {each.get("id", ""): each[fold or "split"] for each in cells if each.get(fold or "split")}
        now = {utterance.id: split for split, utterances in corpus.splits.items() for utterance in utterances}
        for name in {**now, **before}:
            if before.get(name) != now.get(name):
                raise InputError(
                    f"{folder / KEPT}: {name} was drawn for {before.get(name)}, but now for {now.get(name)}: put the "
                    "table and datarc.split back, or name another folder."
                )


def _shared(corpus: Corpus) -> bool:
    """Whether splits may have audio in common: Speech Commands' `_silence_` is of the same noise in train and dev."""
    drawn = {u.path for u in corpus.splits["train"] if u.start is None and u.frames is not None}
    return any(u.path in drawn for split in ("dev", "test") for u in corpus.splits[split])


def _row(corpus: Corpus, utterance: Utterance) -> dict[str, str]:
    labels = {
        slot: names[index] for slot, names, index in zip(_slots(corpus), corpus.classes, utterance.label)
    }
    start, frames = utterance.start, utterance.frames
    times = ("", "") if start is None or frames is None else (_seconds(start), _seconds(start + frames))
    weight = repr(utterance.weight).removesuffix(".0")
    where = {"path": os.path.abspath(utterance.path), "start": times[0], "end": times[1]}
    return {**where, **labels, "id": utterance.id, "speaker": utterance.speaker, "weight": weight}


def _slots(corpus: Corpus) -> tuple[str, ...]:
    return corpus.slots or ("label",)


def _seconds(samples: int) -> str:
    """Seconds of a number of samples at 16 kHz, exactly."""
    return f"{samples / audio.SAMPLE_RATE:.7f}".rstrip("0").rstrip(".")


def _fixed(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    for utterance in utterances:
        if utterance.start is not None or utterance.frames is None:
            yield utterance
            continue
        count = max(audio.length(utterance.path) // utterance.frames, 1)
        for k in range(count):
            name, weight = f"{utterance.id}~{k}", float(Fraction(utterance.weight) / count)
            yield replace(utterance, id=name, weight=weight, start=k * utterance.frames)
