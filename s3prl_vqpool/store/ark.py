"""A strict reader of float vectors in Kaldi's archives, .ark and .scp.

kaldiio's reader is not for files of others: it unpickles an entry that begins with ``PKL``, runs an scp's line that
ends in a pipe, and makes room for as many numbers as a header claims. Here nothing is run, a size is believed if its
bytes are there, and whatever is not a vector of floats is refused.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..corpora.folders import read_list
from ..errors import InputError

_LONGEST_KEY = 1024
_BINARY = b"\0B"
_VECTORS: dict[bytes, np.dtype[Any]] = {b"FV ": np.dtype("<f4"), b"DV ": np.dtype("<f8")}
_HEADER = 10
"""Bytes before the numbers: the flag, the kind, the size of the count, the count."""
_PLACE = re.compile(r"(.+):([0-9]{1,18})")

Entry = tuple[str, np.ndarray]


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """Keys and vectors float [N, E] of an .ark, or of what an .scp leads to.

    Args:
        path: an archive, binary or text, or a script file with lines ``KEY FILE:OFFSET`` or ``KEY FILE``. Paths in it
            begin at the working directory, as Kaldi's do.

    Raises:
        InputError: an entry that is cut or no vector of floats, vectors of several lengths, a key twice, a pipe; names
            the file and the key.
        OSError: a file that cannot be read.
    """
    entries = _of_script(path) if path.suffix == ".scp" else _of_archive(path)
    found: dict[str, np.ndarray] = {}
    first = ""
    for key, vector in entries:
        first = first or key
        if key in found:
            raise InputError(f"{path}: the key {key!r} comes twice: take one out.")
        if len(vector) != len(found.get(first, vector)):
            raise InputError(
                f"{path}: the vector of {key!r} has {len(vector)} numbers, but that of {first!r} has "
                f"{len(found[first])}: write vectors of one length."
            )
        found[key] = vector
    if not found:
        raise InputError(f"{path}: holds no vector.")
    return list(found), np.stack(list(found.values()))


def _of_archive(path: Path) -> Iterator[Entry]:
    archive = _Archive(path)
    at = archive.after_space(0)
    while at < len(archive.data):
        key, at = archive.key(at)
        vector, at = archive.vector(at, key)
        yield key, vector
        at = archive.after_space(at)


def _of_script(path: Path) -> Iterator[Entry]:
    archive, opened = None, ""
    spent: Counter[str] = Counter()
    for number, line in enumerate(read_list(path, "lines like 'KEY FILE:OFFSET'").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        key, name, start = _place(where, line)
        if archive is None or opened != name:
            archive, opened = _Archive(Path(name), f"{where}: "), name
        vector, end = archive.vector(start, key)
        spent[name] += end - start
        if spent[name] > len(archive.data):
            raise InputError(f"{where}: vectors overlap in {name}: write it again.")
        yield key, vector.copy()


def _place(where: str, line: str) -> tuple[str, str, int]:
    """Key, file and offset of a script file's line."""
    key, _, rest = line.strip().replace("\t", " ").partition(" ")
    rest = rest.strip()
    if "|" in (rest[:1], rest[-1:]):
        raise InputError(
            f"{where}: is a pipe, and no command of a list is run. Write its output to an archive."
        )
    if rest in ("", "-") or not (key + rest).replace(" ", "").isprintable():
        raise InputError(f"{where}: Expected 'KEY FILE:OFFSET'. Complete the line.")
    if rest.endswith("]"):
        raise InputError(
            f"{where}: has a range, and whole vectors alone are read. Copy them with copy-vector."
        )
    place = _PLACE.fullmatch(rest)
    return (key, place[1], int(place[2])) if place else (key, rest, 0)


class _Archive:
    """An archive whose bytes are mapped.

    Args:
        where: what stands before the path in messages.
    """

    def __init__(self, path: Path, where: str = "") -> None:
        self.where = f"{where}{path}"
        if not path.is_file():
            problem = "is no regular file" if path.exists() else "no such file"
            hint = "; paths in an scp begin at the working directory" if where else ""
            raise InputError(f"{self.where}: {problem}{hint}.")
        with open(path, "rb") as file:
            if not path.stat().st_size:
                raise InputError(f"{self.where}: is empty.")
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def after_space(self, at: int) -> int:
        """The first byte from ``at`` on that is no space or newline."""
        while self.data[at : at + 1].isspace():
            at += 1
        return at

    def key(self, at: int) -> tuple[str, int]:
        """The key that begins at a byte, and the byte after its space."""
        end = self.data.find(b" ", at, at + _LONGEST_KEY)
        try:
            key = self.data[at:end].decode() if end >= 0 else ""
        except UnicodeDecodeError:
            key = ""
        if not key or not key.isprintable() or key.split() != [key]:
            raise InputError(f"{self.where}: no key at byte {at}: it is damaged, or no archive of Kaldi's.")
        return key, end + 1

    def vector(self, at: int, key: str) -> tuple[np.ndarray, int]:
        """The vector at a byte, and the byte after it."""
        if at >= len(self.data):
            raise InputError(
                f"{self.where}: is cut: the vector of {key!r} begins at byte {at:,}, and {len(self.data):,} are there."
            )
        return (self._binary if self.data[at : at + 2] == _BINARY else self._text)(at, key)

    def _binary(self, at: int, key: str) -> tuple[np.ndarray, int]:
        header = self.data[at : at + _HEADER]
        if len(header) < _HEADER:
            raise InputError(f"{self.where}: is cut within the header of {key!r}: write it again.")
        dtype = _VECTORS.get(header[2:5])
        if dtype is None:
            kind = "a matrix" if header[3:4] == b"M" else "something else"
            raise InputError(f"{self.where}: {key!r} is {kind}, expected a vector of floats.")
        count, start = int.from_bytes(header[6:], "little", signed=True), at + _HEADER
        if header[5] != 4 or count < 1:
            raise InputError(f"{self.where}: the header of {key!r} is damaged: write it again.")
        end = start + count * dtype.itemsize
        if end > len(self.data):
            raise InputError(
                f"{self.where}: is cut, or damaged: the vector of {key!r} claims {end - start:,} bytes, and "
                f"{len(self.data) - start:,} are left."
            )
        return np.frombuffer(self.data, dtype, count, start), end

    def _text(self, at: int, key: str) -> tuple[np.ndarray, int]:
        end = self.data.find(b"\n", at)
        end = len(self.data) if end < 0 else end
        line = self.data[at:end].strip()
        if not line.startswith(b"[") or not line.endswith(b"]") or b"_" in line:
            raise InputError(
                f"{self.where}: {key!r} is no vector of floats, or is cut: expected '[ 1 2 3 ]' on a line."
            )
        try:
            numbers = (float(word[0]) for word in re.finditer(rb"[^\s\[\]]+|[\[\]]", line[1:-1]))
            vector = np.fromiter(numbers, np.float64)
        except ValueError as error:
            raise InputError(f"{self.where}: the vector of {key!r}: {str(error)[:80]}.") from error
        if not len(vector):
            raise InputError(f"{self.where}: the vector of {key!r} is empty.")
        return vector, end + 1
