"""A step: one command of `vqpool`, what it reads and writes, and whether it has been done with the same inputs.

Beside what a step writes lies its key: the command, hashes of what it read, and versions. A step whose files are
there with the same key is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import parse_json, remove_parts, sha256, write_text
from .. import provenance


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: what it makes, in words.
        argv: the words after `vqpool`.
        outputs: files that it writes.
        inputs: files that it reads and that earlier steps have written.
        facts: what else determines the outputs.
        optional: whether the others are done all the same if its command refuses: a figure of too few utterances, or
            an extra that is not installed.
    """

    name: str
    argv: tuple[str, ...]
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    @property
    def key_file(self) -> Path:
        """Beside the first output's stem; a store is a folder that holds nothing else, so its key lies beside it."""
        first = self.outputs[0]
        return (
            first.parent.with_name(f"{first.parent.name}.key.json") if self.is_store else _key_beside(first)
        )

    @property
    def is_store(self) -> bool:
        """Whether it makes a store."""
        return self.argv[0] == "extract"

    def key(self, root: Path) -> dict[str, Any]:
        """What determines the outputs; paths below ``root`` are relative to it, so that the folder may be moved."""
        return {
            "command": [_below(root, word) for word in self.argv],
            "inputs": {
                _below(root, str(path)): sha256(path) if path.is_file() else None for path in self.inputs
            },
            "facts": dict(self.facts),
            "versions": provenance.versions(),
        }

    def changed(self, root: Path) -> str | None:
        """Why the step is to be done, in words; None if it is done already."""
        for path in (*self.outputs, self.key_file):
            if not path.is_file():
                return f"{path.name} is not there"
        try:
            before = parse_json(self.key_file.read_text("utf-8"), str(self.key_file), "")
        except (InputError, UnicodeDecodeError):
            return f"{self.key_file.name} is damaged"
        now = json.loads(json.dumps(self.key(root)))
        differing = [part for part in now if not isinstance(before, dict) or before.get(part) != now[part]]
        return f"other {', '.join(differing)} than before" if differing else None

    def begin(self) -> None:
        """Say on disk that the outputs count for nothing until `end`."""
        self.key_file.unlink(missing_ok=True)
        remove_parts(self.key_file.parent, self.key_file.name)

    def end(self, root: Path) -> None:
        """Say on disk that the step is done."""
        write_text(self.key_file, json.dumps(self.key(root), indent=1) + "\n")


def _key_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.key.json")


def _below(root: Path, word: str) -> str:
    return word.removeprefix(f"{root}/")
