"""Training statistics on disk: a safetensors file that says what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import whole


def write_statistics(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], identity: Mapping[str, object]
) -> None:
    """Writes ``tensors`` with ``kind`` and ``identity`` as metadata, under a temporary name, then renames."""
    from safetensors.torch import save

    metadata = {"kind": kind, "identity": json.dumps(dict(identity), sort_keys=True, default=str)}
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(data)


def read_statistics(
    path: str | Path, kind: str, names: Sequence[str], expect: Mapping[str, object] | None = None
) -> dict[str, Tensor]:
    """Reads a file of :func:`write_statistics`.

    Raises:
        InputError: the file is missing, unreadable, of another kind, or made from something else than
            ``expect`` says (``sizes`` stands for the tensor of that name, other keys for the identity's).
    """
    tensors, metadata = _read(path)
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
    metadata = _read(path)[1]
    return metadata.get("kind", ""), _identity(path, metadata)


def _identity(path: str | Path, metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        return dict(json.loads(metadata["identity"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: does not say what its statistics were made from.") from None


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of statistics.") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable safetensors file ({reason}).") from None
