"""What audio files say about their size: whether a file was cut short, and whether an MP3 knows its length.

libsndfile shortens a cut file silently, and takes an estimate for the length of an MP3 without a Xing header.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_UNTIL_THE_END = 0x7F000000
"""Writers that stream to a pipe declare a size from here up: the samples go on until the end of the file."""
_MP3_HEAD = 2048
"""Bytes after the ID3 tag that hold the first frame of an MP3, which is the Xing header where there is one."""


@dataclass(frozen=True)
class _Chunks:
    """How a container of chunks is laid out.

    Attributes:
        start: bytes before the first chunk.
        name: bytes of a chunk's name.
        size: format of its size, for `struct`.
        itself: whether the size counts the chunk's own header.
        padding: chunks begin at multiples of so many bytes.
        samples: how the name of the chunk with the samples begins.
    """

    start: int
    name: int
    size: str
    itself: bool
    padding: int
    samples: bytes


_RIFF = _Chunks(12, 4, "<I", False, 2, b"data")
_CHUNKS = {
    "WAV": _RIFF,
    "WAVEX": _RIFF,
    "RF64": _RIFF,
    "AIFF": _Chunks(12, 4, ">I", False, 2, b"SSND"),
    "W64": _Chunks(40, 16, "<Q", True, 8, b"data"),
    "CAF": _Chunks(8, 4, ">q", False, 1, b"data"),
}
#: libsndfile refuses these, or fails to decode them, where they were cut.
_SELF_CHECKED = ("FLAC", "HTK", "MP3")
#: Formats in which a file that was cut short can be recognised.
CHECKED = (*_CHUNKS, "AU", "NIST", "OGG", *_SELF_CHECKED)


def missing(file: BinaryIO, kind: str) -> str | None:
    """What a file lacks of what its header promises, in words; None where it is whole.

    Args:
        file: opened for reading bytes.
        kind: one of `CHECKED`, libsndfile's name of the format.
    """
    total = os.fstat(file.fileno()).st_size
    if kind in _CHUNKS:
        return _short(_samples_chunk(file, _CHUNKS[kind], total), total)
    if kind == "AU":
        return _short(_au_samples(file), total)
    if kind == "NIST":
        return _short(_nist_samples(file), total)
    if kind == "OGG" and not _ogg_ends(file, total):
        return "the last page of the Ogg stream is missing"
    return None


def _short(samples: tuple[int, int] | None, total: int) -> str | None:
    """``samples`` is (first byte, number of bytes) of what the header declares."""
    if samples is None:
        return None
    start, declared = samples
    there = max(total - start, 0)
    if declared <= there or _UNTIL_THE_END <= declared < 2**32:
        return None
    return f"the header promises {declared} bytes of samples, {there} are there"


def _samples_chunk(file: BinaryIO, layout: _Chunks, total: int) -> tuple[int, int] | None:
    header, long_size = layout.name + struct.calcsize(layout.size), None
    order = ">I" if file.read(4) == b"RIFX" else layout.size
    position = layout.start
    while position + header <= total:
        file.seek(position)
        name = file.read(layout.name)
        (size,) = struct.unpack(order, file.read(header - layout.name))
        if name == b"ds64":
            (long_size,) = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))
        size -= header if layout.itself else 0
        if name.startswith(layout.samples):
            return position + header, size if long_size is None or size != 0xFFFFFFFF else long_size
        position += header + max(size, 0)
        position += -position % layout.padding
    return None


def _au_samples(file: BinaryIO) -> tuple[int, int]:
    head = file.read(12).ljust(12, b"\0")
    return struct.unpack("<4xII" if head[:4] == b"dns." else ">4xII", head)


def _nist_samples(file: BinaryIO) -> tuple[int, int] | None:
    head = file.read(1024).decode("ascii", "replace")
    field = dict(re.findall(r"^(\w+) -i (\d+)\s*$", head, re.MULTILINE))
    size = re.match(r"NIST_1A\s+(\d+)", head)
    if size is None or "sample_count" not in field:
        return None
    width = int(field.get("sample_n_bytes", 1)) * int(field.get("channel_count", 1))
    return int(size[1]), int(field["sample_count"]) * width


def _ogg_ends(file: BinaryIO, total: int) -> bool:
    """Whether the last page is whole and says that it is the last (RFC 3533, section 6)."""
    file.seek(max(total - 2**17, 0))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return False
    segments = tail[page + 27 : page + 27 + tail[page + 26]]
    whole = len(segments) == tail[page + 26] and page + 27 + len(segments) + sum(segments) <= len(tail)
    return whole and bool(tail[page + 5] & 4)


def knows_length(file: BinaryIO) -> bool:
    """Whether an MP3 begins with a Xing header that gives its number of frames."""
    head = file.read(10)
    tag = (
        10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
        if head[:3] == b"ID3"
        else 0
    )
    file.seek(tag)
    head = file.read(_MP3_HEAD)
    found = next(iter(_positions(head, b"Xing", b"Info")), None)
    return found is not None and len(head) >= found + 8 and bool(head[found + 7] & 1)


def _positions(data: bytes, *words: bytes) -> Iterator[int]:
    return (match.start() for match in re.finditer(b"|".join(words), data))


class WithoutEnd:
    """An MP3 that looks a terabyte longer to libsndfile.

    It stops at the number of frames that it estimates from the size of the file; of this one it decodes all.
    """

    _MORE = 2**40

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size + self._MORE
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        if self._position >= self._size - 128:  # the decoder looks there for an ID3 tag
            data = bytes(min(count, max(self._size - self._position, 0)))
        else:
            self._file.seek(self._position)
            data = self._file.read(count)
        self._position += len(data)
        return data

    def write(self, data: bytes) -> int:
        raise OSError("opened for reading")
