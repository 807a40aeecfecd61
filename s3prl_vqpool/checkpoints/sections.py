"""Checkpoints whose config is a dict of sections: what S3PRL's APC and NPC load, and its RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import torch_files
from .fairseq import state_dict
from .unpickler import Malformed, named_in, parts, plain, refused


def load(path: str | Path, configs: Sequence[str], weights: str) -> dict[str, Any]:
    """The plain values under the keys ``configs``, and the tensors under ``weights``; the rest is passed over.

    Raises:
        InputError: no such file, damaged, a key is missing, the weights are not finite, or a value is of a class.
    """
    path = Path(path)
    content = torch_files.read(path)
    missing = [key for key in (*configs, weights) if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{path}: not a checkpoint of this upstream: it has no {', '.join(missing)}.")
    try:
        found = {key: plain(content[key]) for key in configs}
    except (Malformed, RecursionError) as error:
        raise InputError(f"{path}: its config cannot be read ({error}).") from error
    _require_plain(path, found)
    return {**found, weights: state_dict(path, content[weights])}


def _require_plain(path: Path, value: Any) -> None:
    """InputError for an object of a class, at any depth of what `plain` gave."""
    for part in parts(value):
        name = None if isinstance(part, (list, tuple)) else named_in(part)
        if name is not None:
            raise InputError(f"{path}: {refused(name)}")
