"""Pieces of audio without labels: files, folders, lists and Kaldi data directories that a command names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from .. import audio
from ..folders import files_below, read_list
from . import kaldi, sources
from .records import Record, records
from .sources import AUDIO, Row, Source

LISTS = (".txt", ".lst", ".scp", ".csv", ".tsv", ".jsonl", ".parquet")
_USED = ("path", "start", "end", "id")


@dataclass(frozen=True)
class Clip:
    """A piece of audio.

    Attributes:
        where: file and line that name it, for messages.
        id: its name in results.
        path: the audio file.
        start, frames: a segment, in samples at 16 kHz; both None for the whole file.
    """

    where: str
    id: str
    path: Path
    start: int | None = None
    frames: int | None = None

    def read(self, gain_db: float = 0.0) -> np.ndarray:
        """Samples float32 [n] at 16 kHz, as `audio.read` gives them."""
        return audio.read(self.path, gain_db, self.start or 0, self.frames)


def clips(given: Sequence[Path], unique: bool = True) -> list[Clip]:
    """The audio that paths name, in their order.

    A file is called by its name without ending. A folder is searched recursively, in the order of the paths; its files
    are called by their path below it, without ending. A Kaldi data directory gives its utterances, with `segments`.
    A list (`LISTS`) has a path in each line, or an id and a path as wav.scp has them, or is a table with a column path
    and, where they are there, start, end (in seconds) and id. Paths in a list begin at its folder.

    Args:
        unique: refuse an id that comes twice.

    Raises:
        InputError: no such file, nothing in it, a malformed line, files that are missing (the first named, all
            counted), an id that comes twice.
    """
    found = [_clip(record) for path in given for record in _records(path)]
    if unique:
        _require_unique(found)
    return found


def _require_unique(found: Sequence[Clip]) -> None:
    twice = next((name for name, count in Counter(each.id for each in found).items() if count > 1), None)
    if twice is not None:
        first, second = [each for each in found if each.id == twice][:2]
        raise InputError(
            f"{second.where}: the id {twice!r} is that of {first.where} too. Leave one out, or give ids in a list."
        )


def lengths(found: Sequence[Clip]) -> list[int]:
    """Samples at 16 kHz of each piece, from the headers of the files.

    Raises:
        InputError: files that cannot be read; the first named, all counted.
    """
    counts, problems = [], []
    for clip in tqdm(found, "reading headers", unit="file", leave=False, disable=None):
        try:
            counts.append(audio.length(clip.path) if clip.frames is None else clip.frames)
        except InputError as error:
            problems.append(str(error))
    if problems:
        others = f" ({len(problems)} of {len(found)} files cannot be used.)" if len(found) > 1 else ""
        raise InputError(f"{problems[0]}{others}")
    return counts


def _clip(record: Record) -> Clip:
    return Clip(record.where, record.id, Path(record.path), record.start, record.frames)


def _records(path: Path) -> Sequence[Record]:
    source = _source(path)
    if not source.rows:
        raise InputError(f"{path}: names no audio. Expected paths of audio files.")
    if "path" not in source.columns:
        raise InputError(f"{path}: no column 'path'. It has: {', '.join(source.columns)}. Rename one.")
    used = {name: (name,) for name in _USED if name in source.columns}
    return records(source, used, way_out="Check the list")


def _source(path: Path) -> Source:
    if path.is_dir():
        return sources.read(path) if (path / kaldi.RECORDINGS).exists() else _below(path)
    if path.suffix.lower() in (".txt", ".lst", ".scp"):
        return _lines(path)
    if path.suffix.lower() in LISTS:
        return sources.read(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder. Expected audio, a folder of audio, or a list.")
    row = Row(str(path), path.parent, {"path": path.name, "id": path.stem})
    return Source(path, ("path", "id"), [row])


def _below(folder: Path) -> Source:
    files = files_below(folder, AUDIO)
    if not files:
        raise InputError(f"{folder}: holds no audio ({' '.join(AUDIO)}) and no wav.scp. Check the folder.")
    names = [file.relative_to(folder) for file in files]
    rows = [
        Row(str(file), folder, {"path": str(name), "id": str(name.with_suffix(""))})
        for file, name in zip(files, names)
    ]
    return Source(folder, ("path", "id"), rows)


def _lines(path: Path) -> Source:
    """A list of paths, or of ids and paths; a line that is an existing file as it stands is a path."""
    rows = []
    purpose = "lines like 'PATH' or 'ID PATH'"
    for number, line in enumerate(read_list(path, purpose).split("\n"), start=1):
        text = line.strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        if "|" in (text[:1], text[-1:]):
            raise InputError(f"{where}: is a pipe, and no command of a list is run. List a file.")
        name, _, rest = text.replace("\t", " ").partition(" ")
        alone = not rest.strip() or (path.parent / text).is_file()
        audio_path = text if alone else rest.strip()
        identity = str(Path(audio_path).with_suffix("")) if alone else name
        rows.append(Row(where, path.parent, {"path": audio_path, "id": identity}))
    return Source(path, ("path", "id"), rows)
