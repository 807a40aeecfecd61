"""Files of `torch.save`, both formats, read as plain data: tensors are views of the mapped file.

Beyond the tensors nothing larger than the file's pickle is held in memory, and sizes that a file declares are
checked against what it has before anything is done with them.
"""

from __future__ import annotations

import errno
import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import DamagedCheckpoint, InputError, UnreadableFile
from ..files import disguised
from .unpickler import Malformed, Name, Unpickler, most_pickled

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    Name("torch", "FloatStorage"): torch.float32,
    Name("torch", "DoubleStorage"): torch.float64,
    Name("torch", "HalfStorage"): torch.float16,
    Name("torch", "BFloat16Storage"): torch.bfloat16,
    Name("torch", "LongStorage"): torch.int64,
    Name("torch", "IntStorage"): torch.int32,
    Name("torch", "ShortStorage"): torch.int16,
    Name("torch", "CharStorage"): torch.int8,
    Name("torch", "ByteStorage"): torch.uint8,
    Name("torch", "BoolStorage"): torch.bool,
}
Only = Mapping[str, tuple[str, ...]] | None
#: Errors that zipfile, struct and torch raise for damaged bytes.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError),
    *(ValueError, struct.error, zipfile.BadZipFile),
)


def read(path: str | Path, only: Only = None) -> Any:
    """What a file of `torch.save` holds, as `Unpickler.load` gives it; tensors are copy-on-write views of the file.

    Args:
        path: the file; only what is used of its tensors is read into memory.
        only: classes that it may name, per module; None for any, whose objects become `Record`.

    Raises:
        DamagedCheckpoint: truncated, or not such a file.
        UnreadableFile: the system does not let us read it.
        InputError: no such file, or it names a class that ``only`` does not list; nothing of it is run.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder, name the checkpoint in it" if path.is_dir() else "no such checkpoint"
        raise InputError(f"{path}: {problem}.")
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            if is_zip(file):
                return _zip(path, file, size, only)
            return _legacy(path, file, size, only)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise unread(path, error) from error


def unread(path: Path, error: Exception) -> InputError:
    """The error in one line: the system's reason if it has one. A seek to nowhere (EINVAL) means damage."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return UnreadableFile(f"{path}: cannot be read ({error.strerror}).")
    problem = disguised(path) or "damaged or truncated, or no file of torch.save"
    return DamagedCheckpoint(f"{path}: {problem}.")


def is_zip(file: IO[bytes]) -> bool:
    """Whether torch takes an open file for its zip format; left at its beginning."""
    start = file.read(4)
    file.seek(0)
    return start == b"PK\3\4"


class Storages:
    """The storages of a file, as views of it once it is known where they lie."""

    def __init__(self, path: Path, size: int) -> None:
        if size == 0:
            raise Malformed("empty")
        try:
            self.bytes = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        except RuntimeError as error:
            raise OSError(errno.ENOMEM, "it cannot be mapped into memory") from error
        self.size = size

    def view(self, offset: int, dtype: torch.dtype, count: int) -> Tensor:
        """[count] tensor of the bytes at ``offset``."""
        nbytes = count * dtype.itemsize
        if offset < 0 or count < 0 or offset + nbytes > self.size:
            raise Malformed("a storage beyond the end of the file")
        part = self.bytes[offset : offset + nbytes]
        if offset % dtype.itemsize:
            part = part.clone()
        return torch.empty(0, dtype=dtype).set_(part, 0, (count,), (1,))


def _zip(path: Path, file: IO[bytes], size: int, only: Only) -> Any:
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, file, size)
        by_name = {member.filename: member for member in archive.infolist()}
        (pickled,) = [name for name in by_name if name.count("/") == 1 and name.lower().endswith("/data.pkl")]
        prefix = pickled.removesuffix("data.pkl")
        if f"{prefix}byteorder" in by_name and archive.read(f"{prefix}byteorder") != b"little":
            raise InputError("written on a big-endian machine; load and save it there with torch first.")
        if by_name[pickled].file_size > most_pickled(size):
            raise Malformed("its pickle is longer than that of any checkpoint of this size")
        content = archive.read(pickled)
    mapped = Storages(path, size)

    def storage(identifier: Any) -> Tensor:
        dtype, key, count = _storage(identifier)
        member = by_name[f"{prefix}data/{key}"]
        if member.file_size != count * dtype.itemsize:
            raise Malformed("a storage of another size than declared")
        return mapped.view(_start(file, member), dtype, count)

    with open(path, "rb") as file:
        return _unpickler(io.BytesIO(content), size, _once(storage), only).load()


def _check_members(archive: zipfile.ZipFile, file: IO[bytes], size: int) -> None:
    members = archive.infolist()
    if sum(member.file_size for member in members) > size:
        raise Malformed("the members declare more bytes than the file has")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise Malformed("a compressed member (torch.save does not compress)")
    # S3PRL lets torch read what was checked here, and torch takes offsets as declared and ignores names' case
    if min(member.header_offset for member in members) or archive.start_dir != _directory(file, size):
        raise Malformed("bytes before or after the zip")
    if len({member.filename.lower() for member in members}) < len(members):
        raise Malformed("two members of one name")
    if any(member.filename != member.orig_filename for member in members):
        raise Malformed("a member of two names")


def _directory(file: IO[bytes], size: int) -> int:
    """Where the end of a zip without a comment declares its directory to be (APPNOTE 4.3.14 to 4.3.16)."""
    file.seek(max(size - 98, 0))
    tail = file.read()
    record, locator, end = tail[:-42], tail[-42:-22], tail[-22:]
    if end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise Malformed("no end of a zip")
    if locator[:4] != b"PK\6\7":
        return int.from_bytes(end[16:20], "little")
    if record[:4] != b"PK\6\6" or struct.unpack("<Q", locator[8:16]) != (size - 98,):
        raise Malformed("no end of a large zip")
    return int.from_bytes(record[48:56], "little")


def _start(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header (APPNOTE 4.3.7)."""
    file.seek(member.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise Malformed("no local header")
    name, extra = struct.unpack("<HH", header[26:])
    return file.tell() + name + extra


def _legacy(path: Path, file: IO[bytes], size: int, only: Only) -> Any:
    """torch's format before 1.6: magic, protocol, system, object, order of storages, then each one's bytes."""

    def pickled(persistent: Callable[[Any], Any]) -> Any:
        return _unpickler(file, size, persistent, only).load()

    def refuse(identifier: Any) -> Any:
        raise Malformed("a storage outside the object")

    if pickled(refuse) != _LEGACY_MAGIC or pickled(refuse) != 1001:
        raise Malformed("not torch's old format")
    if not pickled(refuse).get("little_endian", True):
        raise InputError("written on a big-endian machine; load and save it there with torch first.")
    # the order of storages comes after the pickle, but the tensors need it, so it is read first
    start = file.tell()
    wanted: dict[str, tuple[torch.dtype, int]] = {}

    def note(identifier: Any) -> Tensor:
        dtype, key, count = _storage(identifier)
        if wanted.setdefault(key, (dtype, count)) != (dtype, count):
            raise Malformed("a storage of two sizes")
        return torch.empty(0, dtype=dtype)

    _unpickler(file, size, note, only, rebuild=lambda *_: None).load()
    order = pickled(refuse)
    if type(order) is not list:
        raise Malformed("no order of storages")
    mapped, views, offset = Storages(path, size), {}, file.tell()
    for key in order:
        dtype, count = wanted[str(key)]
        file.seek(offset)
        if struct.unpack("<q", file.read(8)) != (count,):
            raise Malformed("a storage of another size than declared")
        views[str(key)] = mapped.view(offset + 8, dtype, count)
        offset += 8 + count * dtype.itemsize
    file.seek(start)
    return pickled(lambda identifier: views[_storage(identifier)[1]])


def _storage(identifier: Any) -> tuple[torch.dtype, str, int]:
    """dtype, key and number of elements of a persistent id ("storage", type, key, device, count, ...)."""
    kind, name, key, _, count = identifier[:5]
    if kind != "storage" or not isinstance(name, Name) or type(count) is not int or count < 0:
        raise Malformed("no storage")
    if len(identifier) > 5 and identifier[5] is not None:
        raise Malformed("a view of a storage, as torch wrote before 0.4")
    return _STORAGES[name], str(key), count


def _unpickler(
    file: IO[bytes],
    size: int,
    persistent: Callable[[Any], Any],
    only: Only,
    rebuild: Callable[..., Any] | None = None,
) -> Unpickler:
    functions: dict[str, Callable[..., Any] | None] = {
        **dict.fromkeys(map(str, _STORAGES)),
        "torch._utils._rebuild_tensor_v2": rebuild or _rebuild,
        "torch._utils._rebuild_tensor": rebuild or _rebuild,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    }
    return Unpickler(file, size, functions, persistent, only)


def _once(storage: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """Each storage once, so that tensors which share one still do."""
    found: dict[str, Tensor] = {}

    def cached(identifier: Any) -> Tensor:
        key = str(identifier[2])
        if key not in found:
            found[key] = storage(identifier)
        return found[key]

    return cached


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """The tensor of `torch._utils._rebuild_tensor_v2`, if it has no more elements than its storage."""
    if not isinstance(storage, Tensor) or any(
        type(part) is not tuple or any(type(number) is not int or number < 0 for number in part)
        for part in ((offset,), shape, strides)
    ):
        raise Malformed("no tensor")
    elements = 1
    for length in shape:
        elements *= length
    if len(shape) != len(strides) or elements > storage.numel():
        raise Malformed("a tensor larger than its storage")
    return storage.as_strided(shape, strides, offset)
