"""`codebook.yaml`: which upstream, which codebooks on it, and how many frames its utterances have."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, shortened
from ..files import parse_yaml, write_text


@dataclass(frozen=True)
class Codebook:
    """The content of a codebook.yaml. Its paths are absolute; in the file they are relative to the file.

    Attributes:
        upstream: a name of `s3prl.hub`.
        codebooks: safetensors file of `KMeansCodebooks`.
        window, hop: n samples are ``(n - window) // hop + 1`` frames.
        checkpoint: what the upstream takes as `-k`, if anything.
        statistics: file of training counts for selections such as `-s vq_bp`, if any.
    """

    upstream: str
    codebooks: str
    window: int
    hop: int
    checkpoint: str | None = None
    statistics: str | None = None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if value is not None}
        content["codebooks"] = os.path.relpath(self.codebooks, path.parent)
        write_text(path, yaml.safe_dump(content, sort_keys=False))


_TYPES: dict[str, tuple[type, bool]] = {
    "upstream": (str, True),
    "codebooks": (str, True),
    "window": (int, True),
    "hop": (int, True),
    "checkpoint": (str, False),
    "statistics": (str, False),
}


def load(path: str | Path | None, name: str = "kmeans_vq") -> Codebook:
    """Read a codebook.yaml for the upstream ``name``; InputError if the file is something else."""
    if path is None:
        raise InputError(f"{name} needs codebooks: -g codebook.yaml, as vqpool kmeans writes it.")
    path = Path(path)
    try:
        content: Any = parse_yaml(path.read_text(), path.name)
    except (OSError, ValueError) as error:
        problem = f"not a codebook.yaml as vqpool kmeans writes it ({shortened(error)})"
        raise InputError(f"{path}: {problem}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a codebook.yaml as vqpool kmeans writes it (no keys).")
    unknown = [str(key) for key in content if key not in _TYPES]
    missing = [key for key, (_, needed) in _TYPES.items() if needed and key not in content]
    wrong = [key for key, value in content.items() if key in _TYPES and type(value) is not _TYPES[key][0]]
    if content.get("hop") == 0:
        wrong.append("hop")
    for keys, problem in ((unknown, "unknown keys"), (missing, "it lacks"), (wrong, "wrong values for")):
        if keys:
            raise InputError(
                f"{path}: not a codebook.yaml as vqpool kmeans writes it: {problem} {', '.join(keys)}."
            )
    for key in ("codebooks", "statistics"):
        if key in content:
            content[key] = str(path.parent / content[key])
    return Codebook(**content)
