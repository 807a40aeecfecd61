"""Files that are whole or absent, one writer at a time, hashes; readers of tensors, JSON and YAML from any source."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from .errors import InputError, in_file

if TYPE_CHECKING:
    from torch import Tensor

_DEEPEST = 64
"""Levels of sections and lists in a JSON or YAML file."""
_MOST = 1_000_000
"""Values in a YAML file; one that is named again (YAML's ``*alias``) counts again."""

_WRITING = "writing\n"
"""In a lock, once it is known that nothing is replaced that should not be."""


class Busy(InputError):
    """Another process is writing to the same place."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to. It is renamed at the end, or removed after an error.

    Raises:
        OSError: what the system refuses, whatever error the writer makes of it; its ``filename`` is ``path``.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # safetensors makes its files readable by the owner only
        os.replace(temporary, path)
    except Exception as error:
        named = in_file(error, str(path))
        if named is error:
            raise
        raise named from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file, whole or not at all; the same tensors and metadata give the same bytes."""
    with whole(path) as temporary:
        put_tensors(temporary, tensors, metadata)


def put_tensors(
    temporary: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file under the name that `whole` gave."""
    from safetensors.torch import save, save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if metadata is not None:
        temporary.write_bytes(_with_sorted_header(save(contiguous, dict(metadata))))
        return
    # safetensors 0.8 writes to a name of its own beside the file, which stays there after a kill
    with TemporaryDirectory(".part", f"{temporary.name.removesuffix('.part')}.", temporary.parent) as folder:
        save_file(contiguous, Path(folder, "tensors"))
        os.replace(Path(folder, "tensors"), temporary)


def _with_sorted_header(content: bytes) -> bytes:
    """A safetensors file whose metadata, which its library writes in random order, are sorted by name."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Args:
        kind: what the file holds, for the error.

    Raises:
        InputError: no such file, it cannot be read, or it is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of {kind}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = disguised(path) or " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a file of {kind} ({reason}).") from error


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, which passes over a folder that it cannot read; here that is an OSError with its name."""

    def stop(error: OSError) -> None:
        raise error

    return os.walk(folder, onerror=stop)


def disguised(path: str | Path) -> str | None:
    """What a file is that people get in place of a large one: a Git LFS pointer, or a web page; None for others."""
    try:
        with open(path, "rb") as file:
            start = file.read(200).lstrip().lower()
    except OSError:
        return None
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: git lfs pull fetches the file itself"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page: download the file itself"
    return None


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds.

    Attributes:
        left: what the one before wrote into it, if it was killed.
        real: False on a file system without locks, where others hold it too.
    """

    file: TextIO
    left: str
    real: bool


@contextmanager
def alone(folder: str | Path, lock: str = ".lock") -> Iterator[Lock | None]:
    """Keep other processes out of ``folder``, which is made if it is not there, while this one writes to it.

    The kernel frees the lock of a process that was killed. Workers that this process forks do not hold it. A file
    system without locks gives no protection. A folder that was made here and stayed empty is removed at the end.

    Args:
        lock: name of the lock's file; processes that use different names do not exclude each other.

    Returns:
        The lock; None if the folder is not writable: then the first write says so.

    Raises:
        Busy: another process is writing there; names it.
        InputError: the folder cannot be made.
    """
    folder = Path(folder)
    made = _make(folder)
    try:
        with _locked(folder / lock) if os.access(folder, os.W_OK) else nullcontext() as held:
            yield held
    finally:
        with suppress(OSError):  # not empty
            for each in made:
                each.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder; it and its parents, the innermost first, that were not there."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror}): name another.") from error
    return made


@contextmanager
def _locked(path: Path) -> Iterator[Lock]:
    while True:
        with open(path, "a+") as file:
            locked = _lock(file)
            file.seek(0)
            left = file.read()
            if locked is False:
                who = left.splitlines()[0] if left else "another process"
                raise Busy(f"{path.parent}: {who} is writing there: wait until it ends, or end it.")
            if not _is(path, file.fileno()):
                continue  # the process that had it removed it just now
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield Lock(file, left, bool(locked))
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(file: TextIO) -> bool | None:
    """Whether this process has the lock now; None on a file system without locks.

    It is lockf, since flock would pass it on to forked workers.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def asked_for(*paths: Path, overwrite: bool) -> Iterator[None]:
    """Keep files that are there already, and other processes out, while this one writes the files ``paths``.

    Where a process was killed that wrote them, what it left is replaced.

    Args:
        paths: of one folder, which is made if it is not there; the first one is the file that the user named.
        overwrite: replace what is there.

    Raises:
        InputError: one of them is there; names it.
        Busy: another process is writing them.
    """
    folder = paths[0].parent
    with alone(folder, f".{paths[0].name}.lock") as lock:
        for path in paths:
            if path.exists() and not overwrite and not (lock and _WRITING in lock.left):
                raise InputError(
                    f"{path}: is there already: name another, or give --overwrite to replace it."
                )
            remove_parts(folder, path.name)
        if lock:
            lock.file.write(_WRITING)
            lock.file.flush()
        yield


def remove_parts(folder: str | Path, name: str = "") -> None:
    """Remove what killed processes left of files in ``folder``, or of the one called ``name``; call it when alone."""
    for path in Path(folder).glob(".*.part"):
        if not name or path.name.startswith(f".{name}."):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def parse_json(text: str, name: str, way_out: str) -> Any:
    """The content of a JSON text.

    Args:
        name: of the file, for the error.
        way_out: what the user is to do.

    Raises:
        InputError: not JSON, nested too deeply, or a number that no file of ours holds.
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}, line {error.lineno}: malformed JSON ({error.msg}). {way_out}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise InputError(f"{name}: malformed JSON ({reason}). {way_out}") from error


def parse_yaml(text: str, name: str) -> Any:
    """The content of a YAML text: sections, lists, texts, numbers, true, false and nothing.

    Args:
        name: of the file, for the error.

    Raises:
        InputError: not YAML, nested too deeply, too many values (as where a list is doubled many
            times by its alias), a whole number beyond 64 bits, a date, or a value of another kind.
    """
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        reason = (
            "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        )
        raise InputError(f"{name}: not YAML ({reason}).") from error
    problem = _strange(content)
    if problem:
        raise InputError(f"{name}: {problem}.")
    return content


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= 2**63:
        raise ValueError(f"the number {digits[:20]}... is beyond 64 bits")
    return int(digits)


def _strange(content: Any) -> str | None:
    """What is wrong with a YAML file's content, in words."""
    left, pending = _MOST, [(content, 0)]
    while pending:
        value, depth = pending.pop()
        left -= 1
        if depth > _DEEPEST or left < 0:
            return "nested too deeply" if depth > _DEEPEST else f"more than {_MOST:,} values"
        if isinstance(value, Mapping):
            odd = next((key for key in value if not isinstance(key, (str, int, float))), "")
            if odd != "":
                return f"the key {odd!r} is no text"
            pending += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            pending += [(each, depth + 1) for each in value]
        elif not isinstance(value, (str, int, float, type(None))):
            return f"{value} is a {type(value).__name__}, expected a number or text (put it into quotes)"
        elif isinstance(value, int) and abs(value) >= 2**63:
            return "a whole number is beyond 64 bits"
    return None
