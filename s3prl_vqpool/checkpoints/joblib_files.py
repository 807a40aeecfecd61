"""Files of `joblib.dump` and `pickle.dump` read as plain data: neither scikit-learn nor joblib is imported.

joblib writes a `NumpyArrayWrapper` into the pickle in place of an array, and the array's bytes right behind the
opcode that builds it (joblib/numpy_pickle.py, since 0.10). Arrays come back as `Array`; of others than floats the
content is passed over.
"""

from __future__ import annotations

import bz2
import io
import lzma
import math
import pickle
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from ..errors import DamagedCheckpoint, InputError
from .torch_files import unread
from .unpickler import Malformed, Name, Record, Unpickler

#: The first bytes of what joblib compresses, and what unpacks it; zlib's 47 takes its own format and gzip's.
_PACKED: tuple[tuple[bytes, Any], ...] = (
    (b"\x78", lambda: zlib.decompressobj(47)),
    (b"\x1f\x8b", lambda: zlib.decompressobj(47)),
    (b"BZ", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(memlimit=2**28)),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(memlimit=2**28)),
)
_UNPACKED_FREE_BYTES = 2**26
_UNPACKED_PER_BYTE = 16
_DAMAGE = (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError, zlib.error, lzma.LZMAError)


@dataclass(eq=False, slots=True)
class _DType(Record):
    """A dtype of numpy: ``kind`` such as "f4", and as ``state`` what numpy pickles of it, the byte order second."""

    kind: str = ""

    def numpy(self) -> np.dtype:
        """Raises Malformed for dtypes with Python's objects or fields."""
        order = self.state[1] if type(self.state) is tuple and len(self.state) > 1 else "="
        if not re.fullmatch(r"[biufcSUV?]\d{0,4}", self.kind) or order not in ("<", ">", "|", "="):
            raise Malformed("an array whose elements are no numbers")
        return np.dtype(f"{order}{self.kind}")


@dataclass(eq=False, slots=True)
class Array(Record):
    """An array of numpy. Its ``state`` is numpy's own: version, shape, dtype, column-major order or not, bytes."""

    def numpy(self) -> np.ndarray | None:
        """The array, writable and in native byte order; None where its elements are no floats."""
        _, shape, dtype, columns_first, content = self.state
        kind = dtype.numpy()
        if kind.kind != "f":
            return None
        content = content.encode("latin1") if isinstance(content, str) else content
        if len(content) != _elements(shape) * kind.itemsize:
            raise Malformed("an array of another size than declared")
        found = np.frombuffer(content, kind).reshape(shape, order="F" if columns_first else "C")
        return found.astype(kind.newbyteorder("="), order="C")


def read(path: Path) -> Any:
    """What such a file holds: plain data, `Record` and `Array`; of a file of torch's old format, its first number.

    Raises:
        DamagedCheckpoint: truncated, damaged, or something else.
        InputError: no such file, or the system does not let us read it.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: {'is a folder, name the file in it' if path.is_dir() else 'no such file'}."
        )
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            start = file.read(6)
            file.seek(0)
            unpack = next((make for prefix, make in _PACKED if start.startswith(prefix)), None)
            if unpack is None:
                return _Unpickler(file, size).load()
            content = _unpacked(file.read(), unpack())
        return _Unpickler(io.BytesIO(content), len(content)).load()
    except _DAMAGE as error:
        if isinstance(error, OSError):
            raise unread(path, error) from error
        raise DamagedCheckpoint(f"{path}: damaged or truncated, or no file of joblib ({error}).") from error


def _unpacked(content: bytes, decompressor: Any) -> bytes:
    limit = max(_UNPACKED_FREE_BYTES, _UNPACKED_PER_BYTE * len(content))
    unpacked: bytes = decompressor.decompress(content, limit)
    if not decompressor.eof:
        raise Malformed("cut, or more than that many times its size when unpacked")
    return unpacked


class _Unpickler(Unpickler):
    """Reads numpy's arrays, within the pickle or, as joblib puts them, amid its opcodes."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(Unpickler.dispatch)

    def __init__(self, file: IO[bytes], size: int) -> None:
        functions: dict[str, Callable[..., Any] | None] = {
            "numpy.dtype": _dtype,
            "_codecs.encode": lambda text, *_: (
                text
            ),  # as protocols 0 to 2 write bytes; `Array.numpy` encodes it
            **dict.fromkeys(
                (f"{module}.multiarray._reconstruct" for module in ("numpy.core", "numpy._core")),
                lambda *_: Array(Name("numpy", "ndarray")),
            ),
            **dict.fromkeys(
                (f"{module}.numeric._frombuffer" for module in ("numpy.core", "numpy._core")),
                lambda content, dtype, shape, order: _array(shape, dtype, order, content),
            ),
        }
        super().__init__(file, size, functions, _no_storage, None)
        self.size = self.bytes_left = size  # arrays within a pickle are its bulk

    def load_build(self) -> None:
        super().load_build()
        target = self.stack[-1]
        if (
            type(target) is Record
            and target.name.member == "NumpyArrayWrapper"
            and target.name.module.endswith("joblib.numpy_pickle")
        ):
            self.stack[-1] = self._behind(target.state)

    dispatch |= {ord(pickle.BUILD): load_build}

    def _behind(self, state: dict[str, Any]) -> Array:
        """The array that lies behind the opcode that has just been read."""
        dtype, shape = state["dtype"], state["shape"]
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.seek(ord(self.file.read(1)), io.SEEK_CUR)
        kind = dtype.numpy()
        count = _elements(shape) * kind.itemsize
        if count > self.size - self.file.tell():
            raise Malformed("an array beyond the end of the file")
        if kind.kind != "f":
            self.file.seek(count, io.SEEK_CUR)
            return _array(shape, dtype, state["order"], b"")
        return _array(shape, dtype, state["order"], self.file.read(count))


def _dtype(kind: Any, *_: Any) -> _DType:
    if type(kind) is not str:
        raise Malformed("an array whose elements are no numbers")
    return _DType(Name("numpy", "dtype"), kind=kind)


def _array(shape: Any, dtype: Any, order: Any, content: Any) -> Array:
    return Array(Name("numpy", "ndarray"), (1, shape, dtype, order == "F", content))


def _elements(shape: Any) -> int:
    if type(shape) is not tuple or any(type(length) is not int or length < 0 for length in shape):
        raise Malformed("an array without a shape")
    return math.prod(shape)


def _no_storage(identifier: Any) -> Any:
    raise Malformed("a storage outside the object")
