"""A small corpus with utterances of many lengths."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SLOTS = [("activate", "lights", "none"), ("increase", "volume", "kitchen")]
#: Some are equal, two differ by one; for 7600 and 16000 S3PRL's Featurizer would keep a frame more than there is.
SAMPLES = (16000, 15999, 16000, 7600, 12345, 7600, 4000, 20000, 16000, 9001, 15920, 2500)


def fluent_commands(root: Path) -> dict[str, Any]:
    """Twelve utterances in Fluent Speech Commands' layout, four a split; the datarc entries."""
    generator = np.random.default_rng(0)
    (root / "data").mkdir(parents=True)
    (root / "wavs").mkdir()
    for number, split in enumerate(("train", "valid", "test")):
        rows = []
        for k, samples in enumerate(SAMPLES[number * 4 : number * 4 + 4]):
            path = root / "wavs" / f"{split}{k}.wav"
            noise = np.convolve(generator.standard_normal(samples), np.hanning(5 + 4 * k + number), "same")
            soundfile.write(path, 0.1 * noise / noise.std(), 16000)
            rows.append([k, f"wavs/{path.name}", "speaker", "words", *SLOTS[k % 2]])
        with open(root / "data" / f"{split}_data.csv", "w", newline="") as file:
            header = ["", "path", "speakerId", "transcription", "action", "object", "location"]
            csv.writer(file).writerows([header, *rows])
    return {"file_path": str(root)}


def overrides(datarc: dict[str, Any]) -> list[str]:
    """`-o` for datarc entries, without workers unless they say otherwise."""
    datarc = {"num_workers": 0, **datarc}
    return [
        "-o",
        ",,".join(f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items()),
    ]


def of_an_earlier_version(folder: Path) -> Path:
    """The store without `rows.safetensors`, so that its rows are read from the shards' indexes."""
    (folder / "rows.safetensors").unlink()
    done = json.loads((folder / "done.json").read_text())
    del done["rows"]
    (folder / "done.json").write_text(f"{json.dumps(done, indent=1)}\n")
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
