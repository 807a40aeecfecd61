"""Kaldi data directories: wav.scp, segments, text, and files named utt2COLUMN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import InputError
from ..folders import read_list

RECORDINGS = "wav.scp"
_COLUMN = re.compile(r"utt2(\w+)")
_NAMES = {"spk": "speaker"}

#: For each key of a file, its line and what stands after it.
Entries = Mapping[str, tuple[int, str]]


def read(folder: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, str]]]]:
    """Columns, and (file and line, cells) of each utterance of a data directory.

    ``utt2NAME`` gives the column NAME, ``utt2spk`` the column speaker, ``text`` the column text, and, without
    ``utt2label``, the column label too.

    Raises:
        InputError: a pipe or an archive in wav.scp, a key that comes twice or is unknown, a malformed line.
    """
    recordings = _recordings(folder / RECORDINGS)
    segmented = (folder / "segments").exists()
    utterances = _segments(folder / "segments", recordings) if segmented else _whole(folder, recordings)
    columns = {name: _column(file, utterances) for name, file in _files(folder).items()}
    if "text" in columns:
        columns.setdefault("label", columns["text"])
    rows = (
        (where, {**cells, **{name: column.get(utterance, (0, ""))[1] for name, column in columns.items()}})
        for utterance, (where, cells) in utterances.items()
    )
    return ["id", "path", *(["start", "end"] if segmented else []), *columns], rows


def _files(folder: Path) -> dict[str, Path]:
    found = {match[1]: file for file in sorted(folder.iterdir()) if (match := _COLUMN.fullmatch(file.name))}
    named = {_NAMES.get(name, name): file for name, file in found.items()}
    return {**named, **({"text": folder / "text"} if (folder / "text").exists() else {})}


def entries(file: Path) -> dict[str, tuple[int, str]]:
    """For each key of a file of lines 'KEY VALUE', its line and its value; InputError for a key that comes twice."""
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_list(file, "lines like 'KEY VALUE'").split("\n"), start=1):
        if not line.strip():
            continue
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key in found:
            raise InputError(
                f"{file}, line {number}: {key!r} is in line {found[key][0]} already. Take one out."
            )
        found[key] = number, value.strip()
    return found


def _recordings(file: Path) -> Entries:
    found = entries(file)
    for number, path in found.values():
        if "|" in (path[:1], path[-1:]):
            raise InputError(
                f"{file}, line {number}: is a pipe, and no command of a list is run. Write its output to a file, and "
                "list that."
            )
        if re.search(r"\.ark:\d+$", path):
            raise InputError(
                f"{file}, line {number}: is in an archive. Write it to an audio file, and list that."
            )
    return found


def _whole(folder: Path, recordings: Entries) -> dict[str, tuple[str, dict[str, str]]]:
    return {
        key: (f"{folder / RECORDINGS}, line {number}", {"id": key, "path": path})
        for key, (number, path) in recordings.items()
    }


def _segments(file: Path, recordings: Entries) -> dict[str, tuple[str, dict[str, str]]]:
    utterances = {}
    for key, (number, value) in entries(file).items():
        where, fields = f"{file}, line {number}", value.split()
        if len(fields) != 3:
            raise InputError(f"{where}: Expected 'UTTERANCE RECORDING START END'. Complete the line.")
        recording, start, end = fields
        if recording not in recordings:
            raise InputError(
                f"{where}: {recording!r} is not in {RECORDINGS}. Add it there, or take the line out."
            )
        end = "" if end in ("-1", "-1.0") else end  # Kaldi: until the end
        utterances[key] = where, {"id": key, "path": recordings[recording][1], "start": start, "end": end}
    return utterances


def _column(file: Path, utterances: Mapping[str, object]) -> Entries:
    found = entries(file)
    for key, (number, _) in found.items():
        if key not in utterances:
            raise InputError(
                f"{file}, line {number}: {key!r} is no utterance of this directory. Kaldi's utils/fix_data_dir.sh "
                "takes such lines out."
            )
    return found
