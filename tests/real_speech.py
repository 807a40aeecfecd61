"""The real speech beside the project, laid out as the four corpora (skips where it is absent)."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SPEECH = Path(__file__).resolve().parents[2] / "shared" / "speech"
_NOT_KEPT_OUT = re.compile(r"^(.+)(_nohash_.*)$")


_laid_out: dict[tuple[str, ...], Path] = {}


def lay_out(out: Path, *tasks: str) -> Path:
    """Run the packs' own script into ``out``, then give the KS training speakers names that S3PRL trains on.

    Asked again in the same process, the files are hard links to those of the first time.

    The KS pack is Google's official test set, so by their names' hash all its speakers belong to test, and
    S3PRL's split (s3prl/downstream/speech_commands/expert.py) leaves train and dev empty.
    """
    if not SPEECH.is_dir():
        pytest.skip(f"no real speech: {SPEECH} is absent")
    if tasks in _laid_out:
        return Path(shutil.copytree(_laid_out[tasks], out, copy_function=os.link, dirs_exist_ok=True))
    command = [sys.executable, str(SPEECH / "unpack.py"), str(out), "--only", *tasks]
    subprocess.run(command, check=True, capture_output=True)
    for path in (out / "speech_commands_v0.01").glob("*/*_nohash_*.wav"):
        speaker, rest = _NOT_KEPT_OUT.match(path.name).groups()
        path.rename(path.with_name(_trained_on(speaker) + rest))
    _laid_out[tasks] = out
    return out


def datarc(out: Path) -> dict[str, dict[str, str]]:
    """S3PRL's datarc entries by task for the corpora in ``out``."""
    entries = {
        "ks": {
            "speech_commands_root": out / "speech_commands_v0.01",
            "speech_commands_test_root": out / "speech_commands_test_set_v0.01",
        },
        "sid": {"file_path": out / "VoxCeleb1", "meta_data": out / "VoxCeleb1" / "split.txt"},
        "ic": {"file_path": out / "fluent_speech_commands_dataset"},
        "er": {"root": out / "IEMOCAP", "meta_data": out / "IEMOCAP" / "meta_data"},
    }
    return {task: {key: str(path) for key, path in paths.items()} for task, paths in entries.items()}


def _trained_on(speaker: str) -> str:
    """A pseudonym, one per speaker, that the hash puts into train or dev."""
    for salt in range(1000):
        name = hashlib.sha1(f"{speaker}/{salt}".encode()).hexdigest()[:8]
        if not 10 <= int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1) < 20:
            return name
    raise AssertionError(f"no pseudonym for {speaker}")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), *(sys.argv[2:] or ("ks", "sid", "ic", "er")))
    print(f"{sys.argv[1]}: done")
