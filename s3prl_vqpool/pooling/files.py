"""Training statistics on disk: a safetensors file that records what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import parse_json, read_tensors, write_tensors


def write_statistics(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], identity: Mapping[str, object]
) -> None:
    """Writes ``tensors`` with ``kind`` and ``identity`` as metadata, under a temporary name, then renames."""
    metadata = {"kind": kind, "identity": json.dumps(dict(identity), sort_keys=True, default=str)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)


def read_statistics(
    path: str | Path, kind: str, names: Sequence[str], expect: Mapping[str, object] | None = None
) -> dict[str, Tensor]:
    """Reads a file of `write_statistics`.

    Raises:
        InputError: the file is missing, unreadable, of another kind, or made from something else than
            ``expect`` says (``sizes`` stands for the tensor of that name, other keys for the identity's).
    """
    tensors, metadata = read_tensors(path, "statistics")
    if metadata.get("kind") != kind or not set(names) <= set(tensors):
        found = metadata.get("kind", "no known kind")
        raise InputError(f"{path}: expected a file of {kind}, but it is of {found}.")
    stored = _identity(path, metadata)
    if "sizes" in tensors:
        stored["sizes"] = tensors["sizes"].tolist()
    for key, wanted in (expect or {}).items():
        plain = json.loads(json.dumps(wanted, default=str))
        if stored.get(key) != plain:
            raise InputError(
                f"{path}: expected {kind} with {key} {plain!r}, but they were made with {stored.get(key)!r};"
                f" make them again, or point to others."
            )
    return tensors


def read_identity(path: str | Path) -> tuple[str, dict[str, object]]:
    """The kind of the statistics at ``path``, and what they say that they were made from."""
    metadata = read_tensors(path, "statistics")[1]
    return metadata.get("kind", ""), _identity(path, metadata)


def _identity(path: str | Path, metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        return dict(parse_json(metadata["identity"], str(path), ""))
    except (KeyError, TypeError, ValueError):  # InputError among them
        raise InputError(f"{path}: does not say what its statistics were made from.") from None
