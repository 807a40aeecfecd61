"""Hand-made corpus folders, a few files each, and small helpers of the tests beside this file."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_vqpool.corpora import Corpus
from s3prl_vqpool.errors import InputError

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def wav(path: Path, samples: np.ndarray | None = None, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(0.1) if samples is None else samples, rate, subtype=subtype)
    return path


def bucket(speaker: str) -> float:
    """Percentage of the Speech Commands hash, as Google's README has it: below 10 dev, below 20 test."""
    largest = 134217727
    return int.from_bytes(hashlib.sha1(speaker.encode()).digest(), "big") % (largest + 1) * 100.0 / largest


def speakers_of(split: str, count: int) -> list[str]:
    """The first ids 00000000, 00000001, ... that the hash puts into a split."""
    bounds = {"dev": (0, 10), "test": (10, 20), "train": (20, 101)}[split]
    ids = (f"{number:08x}" for number in range(10**6))
    return [name for name, _ in zip((i for i in ids if bounds[0] <= bucket(i) < bounds[1]), range(count))]


def speech_commands_folders(out: Path) -> tuple[Path, Path]:
    """train: 3 yes, 1 bed; dev: 2 no, 1 cat; kept out: 1 yes; noise: 2.5 s and 1 s; test: 4 classes."""
    root, test = out / "speech_commands_v0.01", out / "speech_commands_test_set_v0.01"
    train, dev, kept_out = speakers_of("train", 3), speakers_of("dev", 2), speakers_of("test", 1)
    for speaker in train + kept_out:
        wav(root / "yes" / f"{speaker}_nohash_0.wav")
    wav(root / "bed" / f"{train[0]}_nohash_4.wav")
    for speaker in dev:
        wav(root / "no" / f"{speaker}_nohash_0.wav")
    wav(root / "cat" / f"{dev[0]}_nohash_1.wav")
    wav(root / "_background_noise_" / "b_pink.wav", tone(2.5))
    wav(root / "_background_noise_" / "a_tap.wav", tone(1.0))
    for name in ("_silence_/0.wav", "_unknown_/bed_1.wav", "go/2.wav", "yes/1.wav"):
        wav(test / name)
    return root, test


def all_words_folder(out: Path) -> tuple[Path, list[str]]:
    """Version 2 with 35 words: the speakers a, b (train), c (dev), d (test)."""
    words = [*KEYWORDS, *(f"word{number:02d}" for number in range(25))]
    root = out / "speech_commands_v0.02"
    for word in words:
        for speaker in "abcd":
            wav(root / word / f"{speaker}_nohash_0.wav")
    wav(root / "_background_noise_" / "tap.wav")
    (root / "validation_list.txt").write_text("".join(f"{word}/c_nohash_0.wav\n" for word in words))
    (root / "testing_list.txt").write_text("".join(f"{word}/d_nohash_0.wav\n" for word in words))
    return root, words


def voxceleb1_folder(out: Path) -> tuple[Path, Path]:
    """Speakers id10002, id10007 under dev, id10270 under test."""
    root, meta = out / "VoxCeleb1", out / "VoxCeleb1" / "split.txt"
    lines = (
        "3 id10270/x6uYqmx31kE/00001.wav",
        "1 id10007/1zcIwhmdeo4/00001.wav",
        "2 id10007/7gWzIy6yIIk/00001.wav",
        "1 id10002/0_laIeN-Q44/00002.wav",
        "1 id10270/5r0dWxy17C8/00003.wav",
    )
    for line in lines:
        relative = line.split()[1]
        wav(root / ("test" if "id10270" in line else "dev") / "wav" / relative)
    meta.write_text("\n".join(lines) + "\n")
    return root, meta


COMMANDS = {
    "train": [
        ("a1", "activate", "lights", "kitchen"),
        ("a2", "increase", "volume", "none"),
        ("a3", "activate", "music", "none"),
    ],
    "valid": [("b1", "increase", "music", "kitchen")],
    "test": [("c1", "activate", "lights", "none"), ("c2", "activate", "music", "none")],
}


def fluent_commands_folder(out: Path, tables: Mapping[str, Sequence[Sequence[str]]] | None = None) -> Path:
    root = out / "fluent_speech_commands_dataset"
    (root / "data").mkdir(parents=True)
    for split, rows in (tables or COMMANDS).items():
        with open(root / "data" / f"{split}_data.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
            for number, (stem, *values) in enumerate(rows):
                wav(root / "wavs" / "speakers" / "s" / f"{stem}.wav")
                table.writerow([number, f"wavs/speakers/s/{stem}.wav", "s", 'Well, "do" it', *values])
    return root


def iemocap_folder(out: Path, turns: int = 5) -> Path:
    """Five sessions with ``turns`` turns of neu, exc, ang, sad, fru, ... and the meta data for fold1."""
    root, labels = out / "IEMOCAP", {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    rows: dict[int, list[dict[str, str]]] = {}
    for session in range(1, 6):
        dialog, lines, rows[session] = f"Ses{session:02d}F_impro01", ["% header", ""], []
        for number in range(turns):
            turn, emotion = f"{dialog}_F{number:03d}", ("neu", "exc", "ang", "sad", "fru")[number % 5]
            relative = f"Session{session}/sentences/wav/{dialog}/{turn}.wav"
            wav(root / relative)
            lines += [f"[{number}.0000 - {number}.9000]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]", ""]
            if emotion != "fru":
                label = "hap" if emotion == "exc" else emotion
                rows[session].append({"path": relative, "label": label, "speaker": dialog[:6]})
        evaluation = root / f"Session{session}" / "dialog" / "EmoEvaluation"
        evaluation.mkdir(parents=True)
        (evaluation / f"{dialog}.txt").write_text("\n".join(lines))
        (evaluation / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\xff not text")
    folder = root / "meta_data" / "Session1"
    folder.mkdir(parents=True)
    rest = [row for session in range(2, 6) for row in rows[session]]
    for split, chosen in (("train", rest), ("test", rows[1])):
        (folder / f"{split}_meta_data.json").write_text(json.dumps({"labels": labels, "meta_data": chosen}))
    return root


def refused(*message: object) -> AbstractContextManager:
    """Expects one InputError whose whole message is the pieces put together, on one line."""
    whole = "".join(map(str, message))
    assert "\n" not in whole
    return pytest.raises(InputError, match=f"^{re.escape(whole)}$")


def ids(utterances: Sequence) -> list[str]:
    return [utterance.id for utterance in utterances]


def names(corpus: Corpus, label: Sequence[int]) -> str:
    """A label's class names, one per slot, comma-separated."""
    return ",".join(slot[index] for slot, index in zip(corpus.classes, label))
