"""Files that appear whole or not at all, what is in them as a hash, and reading JSON and YAML that anybody wrote."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

_DEEPEST = 64
"""Levels of sections and lists in a JSON or YAML file."""
_MOST = 1_000_000
"""Values in a YAML file; one that is named again (YAML's ``*alias``) counts again."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to, renamed to it at the end, removed where that is not reached."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # safetensors lets nobody but the owner read what it writes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """A text file, UTF-8, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def read_yaml(path: str | Path, way_out: str) -> Any:
    """The content of a YAML file: sections, lists, texts, numbers, true, false and nothing.

    Raises:
        InputError: cannot be read, not YAML, nested too deeply, too many values (as where a list is doubled many
            times by its alias), a whole number beyond 64 bits, a date, or a value of another kind.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {way_out}") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        reason = (
            "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        )
        raise InputError(f"{path}: not YAML ({reason}). {way_out}") from error
    problem = _strange(content)
    if problem:
        raise InputError(f"{path}: {problem}. {way_out}")
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
