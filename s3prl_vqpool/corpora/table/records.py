"""Utterances of a table: its columns are found, its cells are read and checked."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...errors import InputError, unknown_name
from .. import audio
from ..folders import Listing, missing_files
from ..packed import Packed, repeated
from .sources import Row, Source

#: The columns that are used where they are there.
COLUMNS = ("path", "label", "split", "start", "end", "speaker", "fold", "weight", "id")
#: Those that may be several columns of a table: the slots of a label, the splits of several folds.
SEVERAL = ("label", "split")
OVERSHOOT = 0.01
"""Seconds that a segment may end after its file does; it is cut there. Times in tables are rounded."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_KEY = "datarc.columns"

Columns = Mapping[str, tuple[str, ...]]
_Audio = tuple[str, int | None, int | None]


@dataclass(frozen=True)
class Record:
    """An utterance of a table.

    Attributes:
        path: the audio file; a text, since a `Path` takes longer to make than all else.
        labels: a class name per slot.
        id: its name in prediction files.
        start, frames: a segment, in samples at 16 kHz; both None for the whole file.
        weight: sampling weight.
        speaker: who speaks; empty where the table does not say, or where the speaker is the label.
        rows, place: the table's, and which one it is.
    """

    path: str
    labels: tuple[str, ...]
    id: str
    start: int | None
    frames: int | None
    weight: float
    speaker: str
    rows: Sequence[Row]
    place: int

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return self.rows[self.place].where

    @property
    def cells(self) -> Mapping[str, str]:
        """The cells of its row."""
        return self.rows[self.place].cells

    @property
    def span(self) -> tuple[float, float]:
        """First sample, and the one after the last."""
        if self.start is None or self.frames is None:
            return 0, float("inf")
        return self.start, self.start + self.frames


class Records(Packed[Record]):
    """A record of each of some rows, in little memory."""

    def __init__(self, rows: Sequence[Row], records: Iterable[Record]) -> None:
        self._rows = rows
        super().__init__(records)

    def _values(self, item: Record) -> list[Any]:
        r = item
        return [r.path, r.labels, r.id, r.start, r.frames, r.weight, r.speaker]

    def _item(self, place: int, values: list[Any]) -> Record:
        path, labels, name, start, frames, weight, speaker = values
        return Record(path, tuple(labels), name, start, frames, weight, speaker, self._rows, place)


def columns(source: Source, given: Any) -> dict[str, tuple[str, ...]]:
    """The columns of a table that are used: for each of `COLUMNS` that is there, its names in the table.

    Args:
        given: `datarc.columns`: other names than those of `COLUMNS`; a list of names for one of `SEVERAL`.

    Raises:
        InputError: ``given`` is not of this form, or names a column that is not there; no path or label.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{_KEY}: expected names such as {{label: emotion}}, but got {given!r}.")
    for name in given:
        if name not in COLUMNS:
            raise unknown_name(f"column in {_KEY}:", str(name), COLUMNS)
    found: dict[str, tuple[str, ...]] = {}
    for name in COLUMNS:
        wanted = _names(name, given.get(name, name))
        absent = [each for each in wanted if each not in source.columns]
        if not absent:
            found[name] = wanted
        elif name in given or name in ("path", "label"):
            raise InputError(
                f"{source.path}: no column {absent[0]!r}. It has: {', '.join(source.columns)}. Give the name of its "
                f"{name} column: {_KEY}.{name}."
            )
    return found


def _names(name: str, value: Any) -> tuple[str, ...]:
    several = name in SEVERAL and isinstance(value, (list, tuple))
    names = tuple(value) if several else (value,)
    if not names or not all(isinstance(each, (str, int)) and each != "" for each in names):
        raise InputError(f"{_KEY}.{name}: expected the name of a column, but got {value!r}.")
    if len(set(names)) < len(names):
        raise InputError(f"{_KEY}.{name}: names a column twice. Leave one out.")
    return tuple(map(str, names))


def records(
    source: Source, used: Columns, root: str | Path | None = None, way_out: str = "Check datarc.root"
) -> Sequence[Record]:
    """The utterances of a table, in its order.

    Args:
        used: of `columns`.
        root: where relative paths begin; None is the table's own folder.
        way_out: what a message about missing files tells the user to do.

    Raises:
        InputError: an empty cell, a number that is none, a segment without length or beyond its file, an id or
            a piece of audio that comes twice, or files that are missing (the first one named, all counted).
    """
    listing = Listing()
    missing = [each for each in _places(source, used, root) if each[1] not in listing]
    del listing
    if missing:
        error = missing_files(
            missing[0][0].row.where, [("path", Path(path)) for _, path in missing], len(source.rows)
        )
        raise InputError(str(error).replace("Check the corpus folder", way_out)) from error
    every = tqdm(
        _places(source, used, root), "reading the table", len(source.rows), leave=False, disable=None
    )
    rows = source.rows
    found = Records(rows, (_record(cells, path, rows, place) for place, (cells, path) in enumerate(every)))
    _require_once(found)
    return found


def _places(source: Source, used: Columns, root: str | Path | None) -> Iterator[tuple[_Cells, str]]:
    """Each row, and where its audio is."""
    for row in source.rows:
        cells = _Cells(row, used)
        yield cells, os.path.normpath(os.path.join(root or row.folder, cells.text("path")))


@dataclass(frozen=True)
class _Cells:
    """A row, read by the names of `COLUMNS`."""

    row: Row
    used: Columns

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.row.cells.get(each, "") for each in self.used.get(name, ()))

    def text(self, name: str) -> str:
        """The cell of a column that must have a text without control characters."""
        (value,) = self.texts(name)
        return self.checked(value, self.used[name][0])

    def checked(self, value: str, column: str) -> str:
        if not value:
            raise InputError(f"{self.row.where}: no {column}. Fill the cell, or take the row out.")
        if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in value):
            raise InputError(f"{self.row.where}: {column} {value!r} holds a control character. Take it out.")
        return value

    def number(self, name: str) -> float | None:
        """The number of a cell; None where it is empty or the table has no such column."""
        value = "".join(self.texts(name))
        if not value:
            return None
        if not _NUMBER.fullmatch(value) or not abs(float(value)) < 1e9:
            raise InputError(f"{self.row.where}: {name} {value!r} is not a number. Correct the cell.")
        return float(value)


def _record(cells: _Cells, path: str, rows: Sequence[Row], place: int) -> Record:
    labels = tuple(
        cells.checked(value, name) for value, name in zip(cells.texts("label"), cells.used.get("label", ()))
    )
    start, frames = _segment(cells, path)
    weight = cells.number("weight")
    if weight is not None and weight <= 0:
        raise InputError(
            f"{cells.row.where}: weight {weight:g}: expected a number above 0. Correct the cell."
        )
    name = cells.text("id") if "id" in cells.used else _id(cells, start)
    speaker = "" if cells.used.get("speaker") == cells.used.get("label") else "".join(cells.texts("speaker"))
    weight = 1.0 if weight is None else weight
    return Record(path, labels, name, start, frames, weight, speaker, rows, place)


def _id(cells: _Cells, start: int | None) -> str:
    """The path as the table has it, without its ending; of a segment also start and end, as the table has them."""
    stem = os.path.splitext(cells.text("path"))[0]
    return (
        stem
        if start is None
        else f"{stem}#{'-'.join(''.join(cells.texts(each)) for each in ('start', 'end'))}"
    )


def _segment(cells: _Cells, path: str) -> tuple[int | None, int | None]:
    """Start and length in samples at 16 kHz; (None, None) where the row gives neither start nor end."""
    start, end = cells.number("start"), cells.number("end")
    if start is None and end is None:
        return None, None
    where, rate = cells.row.where, audio.SAMPLE_RATE
    if start is not None and start < 0:
        raise InputError(f"{where}: start {start:g} is before the file begins. Correct the cell.")
    if end is not None and end <= (start or 0):
        raise InputError(f"{where}: end {end:g} is not after start {start or 0:g}. Correct the row.")
    try:
        last = _length(path, os.stat(path).st_mtime_ns)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if max(start or 0, end or 0) > last / rate + OVERSHOOT:
        raise InputError(
            f"{where}: ends at {end or start:g} s, but {path} has {last / rate:g} s. Correct the row."
        )
    first = round((start or 0) * rate)
    frames = (last if end is None else min(round(end * rate), last)) - first
    if frames < audio.MIN_SAMPLES:
        raise InputError(
            f"{where}: a segment of {frames / rate:g} s, less than one frame of 25 ms. Take it out."
        )
    return first, frames


@lru_cache(maxsize=100_000)
def _length(path: str, modified: int) -> int:
    """`audio.length` of a file that was modified at that time."""
    return audio.length(path)


def _require_once(found: Sequence[Record]) -> None:
    by_id: dict[str, Record] = {}
    by_audio: dict[_Audio, Record] = {}
    several = repeated(record.id for record in found) | repeated(map(_audio, found))
    for record in compress(found, several):
        before = by_id.setdefault(record.id, record)
        if before is not record:
            raise InputError(
                f"{record.where}: the id {record.id!r} is that of {_line(before)} too. Give each utterance its own in "
                "a column id."
            )
        before = by_audio.setdefault(_audio(record), record)
        if before is not record and before.labels != record.labels:
            raise InputError(
                f"{record.where}: the same audio as in {_line(before)} with another label. Take one of the two out."
            )


def _audio(record: Record) -> _Audio:
    return record.path, record.start, record.frames


def _line(record: Record) -> str:
    return record.where.rpartition(", ")[2]
