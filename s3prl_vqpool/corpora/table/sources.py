"""Rows of text from CSV, TSV, JSON lines and Parquet files, from Kaldi data directories and from folders of audio."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..folders import files_below, hidden, read_list
from ..packed import Packed

#: What a table may call a split, and what it is called here.
SPLIT_NAMES = {
    **{"train": "train", "test": "test", "dev": "dev"},
    **dict.fromkeys(("valid", "validation", "val", "development"), "dev"),
}
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
_PURPOSE = "a table with a header, such as path,label,split"
_FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_BATCH = 1024
"""Rows of a Parquet file that are made texts at once."""


@dataclass(frozen=True)
class Row:
    """One utterance, as its source has it.

    Attributes:
        where: file and line, for messages.
        folder: where a relative path begins.
        cells: text by column; empty where nothing is given.
    """

    where: str
    folder: Path
    cells: Mapping[str, str]


class Rows(Packed[Row]):
    """Rows that have the same columns, in little memory."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        self._columns = columns
        self._files: list[tuple[str, Path]] = []  # what many rows have in common
        super().__init__(rows)

    def _values(self, item: Row) -> list[Any]:
        cut = max(item.where.rfind(", "), 0)
        file = item.where[:cut], item.folder
        if file not in self._files[-1:]:
            self._files.append(file)
        cells = (item.cells.get(name, "") for name in self._columns)
        return [len(self._files) - 1, item.where[cut:], *cells]

    def _item(self, place: int, values: list[Any]) -> Row:
        number, line, *cells = values
        file, folder = self._files[number]
        return Row(file + line, folder, dict(zip(self._columns, cells)))


@dataclass(frozen=True)
class Source:
    """Rows, and the columns that they may have."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Row]


def read(path: Path) -> Source:
    """The rows of a table file, a Kaldi data directory or a folder of audio.

    A folder may also hold one table or Kaldi directory per split, named by it: ``train.csv``, ``dev.csv``, ...

    Raises:
        InputError: not there, of another kind, not readable, or without a row; a line that is cut or malformed.
    """
    source = _folder(path) if path.is_dir() else _file(path)
    if not source.rows:
        raise InputError(f"{path}: has no utterance. Expected {_PURPOSE}.")
    return source


def _file(path: Path) -> Source:
    readers: dict[str, Callable[[Path], tuple[Sequence[str], Iterator[tuple[str, dict[str, str]]]]]] = {
        ".csv": lambda path: _separated(path, ","),
        ".tsv": lambda path: _separated(path, "\t"),
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        problem = "not a table" if path.exists() else "no such file or folder"
        raise InputError(
            f"{path}: {problem}. Expected {', '.join(_FORMATS)}, a Kaldi data directory, or a folder of audio in "
            "folders named by label."
        )
    columns, lines = readers[path.suffix.lower()](path)
    rows = Rows(columns, (Row(f"{path}, {where}", path.parent, cells) for where, cells in lines))
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(f"{path}: has the column {twice[0]!r} twice. Rename one.")
    return Source(path, tuple(columns), rows)


def _separated(path: Path, separator: str) -> tuple[Sequence[str], Iterator[tuple[str, dict[str, str]]]]:
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(read_list(path, _PURPOSE).encode()), "utf-8", newline=""),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    lines = _lines(path, reader)
    _, header = next(lines, (0, []))
    columns = [name.strip() for name in header]

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        for number, cells in lines:
            if len(cells) != len(columns):
                raise InputError(
                    f"{path}, line {number}: has {len(cells)} cells, but the header has {len(columns)}. Complete the "
                    "line, or quote what holds a separator."
                )
            yield f"line {number}", dict(zip(columns, map(str.strip, cells)))

    return columns, rows()


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(number of the last line, cells) of each row that is not blank."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: malformed ({error}). Expected {_PURPOSE}."
        ) from error


def _json_lines(path: Path) -> tuple[Sequence[str], Iterator[tuple[str, dict[str, str]]]]:
    purpose = 'a JSON object on each line, such as {"path": ..., "label": ..., "split": ...}'
    lines = read_list(path, purpose).split("\n")

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", None) or " ".join(str(error).split())
                raise InputError(
                    f"{path}, line {number}: malformed JSON ({reason}). Expected {purpose}."
                ) from error
            if not isinstance(content, dict):
                raise InputError(f"{path}, line {number}: Expected {purpose}.")
            yield f"line {number}", _texts(f"{path}, line {number}", content)

    return list(dict.fromkeys(name for _, cells in rows() for name in cells)), rows()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _texts(where: str, values: Mapping[str, Any]) -> dict[str, str]:
    for name, value in values.items():
        if isinstance(value, (dict, list)):
            raise InputError(f"{where}: {name!r} is not a text or a number. Write one value in each column.")
    return {name: "" if value is None else str(value).strip() for name, value in values.items()}


def _parquet(path: Path) -> tuple[Sequence[str], Iterator[tuple[str, dict[str, str]]]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Expected {_PURPOSE}.")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path}: reading Parquet needs pyarrow: pip install s3prl-vqpool[table], or convert the table to CSV."
        ) from error
    try:
        file = parquet.ParquetFile(path)
        names = [field.name for field in file.schema_arrow if not _nested(field.type)]
        content = file.read(names)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not Parquet, or damaged ({reason}). Write the file again.") from error

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        every = (zip(*(each.to_pylist() for each in batch.columns)) for batch in content.to_batches(_BATCH))
        for number, values in enumerate(chain.from_iterable(every), start=1):
            yield f"row {number}", _texts(f"{path}, row {number}", dict(zip(names, values)))

    return names, rows()


def _nested(kind: Any) -> bool:
    """Whether a Parquet column holds no text or number, but lists, structures or bytes, such as the audio itself."""
    from pyarrow import types

    return types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _folder(path: Path) -> Source:
    from . import kaldi

    if (path / kaldi.RECORDINGS).exists():
        return _kaldi(path)
    parts = _parts(path)
    return _joined(path, parts) if parts else _audio(path)


def _kaldi(path: Path) -> Source:
    from . import kaldi

    columns, rows = kaldi.read(path)
    return Source(path, tuple(columns), Rows(columns, (Row(where, path, cells) for where, cells in rows)))


def _parts(path: Path) -> dict[str, Source]:
    """The tables and Kaldi directories in a folder that are named by a split."""
    from . import kaldi

    parts: dict[str, Source] = {}
    for entry in sorted(path.iterdir()):
        split = SPLIT_NAMES.get(entry.stem.lower())
        if split is None or not ((entry / kaldi.RECORDINGS).exists() or entry.suffix.lower() in _FORMATS):
            continue
        if split in parts:
            raise InputError(f"{entry}: is the {split} split, as {parts[split].path} is. Take one away.")
        parts[split] = _kaldi(entry) if entry.is_dir() else _file(entry)
    return parts


def _joined(path: Path, parts: Mapping[str, Source]) -> Source:
    for source in parts.values():
        if "split" in source.columns:
            raise InputError(
                f"{source.path}: has a column 'split', but its name says the split too. Rename one."
            )
    columns = ("split", *dict.fromkeys(name for source in parts.values() for name in source.columns))
    rows = (
        Row(row.where, row.folder, {**row.cells, "split": split})
        for split, source in parts.items()
        for row in source.rows
    )
    return Source(path, columns, Rows(columns, rows))


def _audio(path: Path) -> Source:
    """``SPLIT/LABEL/*.wav`` where all folders are named by a split, otherwise ``LABEL/*.wav``."""
    folders = [entry.name for entry in sorted(path.iterdir()) if entry.is_dir() and not hidden(entry.name)]
    split = bool(folders) and all(name.lower() in SPLIT_NAMES for name in folders)
    names = ("split", "label") if split else ("label",)
    rows = Rows(("path", *names), ())
    for file in files_below(path, AUDIO):
        parts = file.relative_to(path).parts
        if len(parts) <= len(names):
            wanted = "SPLIT/LABEL" if split else "LABEL"
            raise InputError(f"{file}: lies in no folder of its label. Expected {path}/{wanted}/{file.name}.")
        rows.append(Row(str(file), path, {"path": "/".join(parts), **dict(zip(names, parts))}))
    if not rows:
        raise InputError(
            f"{path}: holds no audio ({' '.join(AUDIO)}), no wav.scp and no train.csv. Check the folder."
        )
    return Source(path, ("path", *names), rows)
