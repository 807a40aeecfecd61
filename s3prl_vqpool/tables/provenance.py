"""Where the files of a table come from: what determined them, and when and where they were made."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..files import sha256
from .stores import StoredTask


def versions() -> dict[str, str]:
    """Of this package and of what computes its numbers."""
    others = ("s3prl", "numpy", "scipy", "scikit-learn", "pandas")
    return {
        "s3prl_vqpool": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in others},
    }


def stored(task: StoredTask) -> dict[str, Any]:
    """The store of a task: its folder, its manifest, and the SHA-256 of that as JSON with sorted keys."""
    manifest = task.store.manifest
    content = json.dumps(manifest, sort_keys=True, default=str)
    return {
        "folder": str(task.path),
        "manifest_sha256": hashlib.sha256(content.encode()).hexdigest(),
        **manifest,
    }


def describe(paths: Sequence[Path]) -> str:
    """As JSON: the date (UTC), the command and the machine that made files, and the SHA-256 of each.

    They stand apart from the files, which are the same bytes each time that they are made.
    """
    content = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": {
            "host": platform.node(),
            "platform": platform.platform(),
            "processor": platform.machine(),
        },
        "versions": versions(),
        "files": {path.name: sha256(path) for path in paths},
    }
    return json.dumps(content, indent=1) + "\n"
