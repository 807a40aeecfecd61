"""Keyword spotting on Speech Commands, as S3PRL's ``downstream/speech_commands`` splits it."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown_name
from . import audio
from .base import Corpus, Utterance
from .folders import (
    SPEECH_COMMANDS,
    SPEECH_COMMANDS_TEST,
    SPEECH_COMMANDS_V2,
    Listing,
    corpus_root,
    missing_files,
    read_list,
    subfolders,
    wav_files,
)

CLASSES = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_")
BACKGROUND = "_background_noise_"
GAIN_DB = -3.0

_MAX_PER_CLASS = 2**27 - 1
_INDEX = {name: index for index, name in enumerate(CLASSES)}


def speech_commands(root: str | Path, test_root: str | Path | None = None, classes: str = "v1") -> Corpus:
    """Speech Commands with the 12 classes of SUPERB (``v1``) or all 35 words of version 2 (``all35``).

    ``v1``: words outside the ten keywords are ``_unknown_``; train and dev are split by S3PRL's hash of
    the speaker; test is ``test_root/<class>/*.wav``. ``_silence_`` is the background noise: in train one
    entry per file, a random second of it at each reading, as in S3PRL; in dev the consecutive whole
    seconds of each file, where S3PRL draws at random. Weights balance the classes as S3PRL's sampler
    does, so the weighted accuracy on dev is what S3PRL's resampled accuracy is on average.

    ``all35``: the official ``validation_list.txt`` and ``testing_list.txt`` of ``root``, train is the
    rest; no ``_silence_``, every weight 1, ``test_root`` is not used.

    Raises:
        InputError: a folder that is not the corpus, a class folder that has no place, a listed file that
            is missing, a background file shorter than one second.
    """
    if classes == "all35":
        return _all_words(corpus_root(root, SPEECH_COMMANDS_V2))
    if classes != "v1":
        raise unknown_name("Speech Commands class set", classes, ("v1", "all35"))
    if test_root is None:
        raise InputError(
            "Speech Commands: Expected speech_commands_test_root as well (only classes: all35 needs none)."
        )
    return _twelve_classes(corpus_root(root, SPEECH_COMMANDS), corpus_root(test_root, SPEECH_COMMANDS_TEST))


def load(datarc: Mapping[str, Any], _: str) -> Corpus:
    """`speech_commands` by the keys of a config's `datarc`."""
    return speech_commands(
        datarc["speech_commands_root"], datarc.get("speech_commands_test_root"), datarc.get("classes", "v1")
    )


def _twelve_classes(root: Path, test_root: Path) -> Corpus:
    background = wav_files(root / BACKGROUND)
    if not background:
        raise InputError(
            f"{root / BACKGROUND}: no .wav files. Expected the noise recordings for the class _silence_."
        )
    words = _words(root)
    silence = [_silence(path) for path in background]
    train = _balanced(words["train"], silence, len(silence))
    dev = _balanced(words["dev"], [second for path in background for second in _seconds(path)], len(silence))
    return Corpus(
        "speech_commands",
        {"train": train, "dev": dev, "test": list(_test_set(test_root))},
        (CLASSES,),
        GAIN_DB,
    )


def _words(root: Path) -> dict[str | None, list[Utterance]]:
    words: dict[str | None, list[Utterance]] = {"train": [], "dev": [], None: []}
    for folder in subfolders(root):
        if folder.name != BACKGROUND:
            label = (_INDEX.get(folder.name, _INDEX["_unknown_"]),)
            for path in wav_files(folder):
                words[speaker_split(path.name)].append(_word(path, label))
    if not words["train"] or not words["dev"]:
        raise InputError(
            f"{root}: the speaker hash in the file names gives train {len(words['train'])} words, dev"
            f" {len(words['dev'])}, and keeps {len(words[None])} out for test. Expected the whole corpus."
        )
    return words


def speaker_split(name: str) -> str | None:
    """``train``, ``dev`` or None (kept out for test) by the hash of the speaker in ``name``.

    Source: ``split_dataset`` in S3PRL's ``downstream/speech_commands/expert.py``.
    """
    speaker = re.sub(r"_nohash_.*$", "", name)
    digest = int(hashlib.sha1(speaker.encode("utf-8")).hexdigest(), 16)
    percentage = (digest % (_MAX_PER_CLASS + 1)) * (100.0 / _MAX_PER_CLASS)
    if percentage < 10:
        return "dev"
    return None if percentage < 20 else "train"


def _id(path: Path) -> str:
    return "-".join(path.parts[-2:])


def _word(path: Path, label: tuple[int, ...]) -> Utterance:
    """A file whose name tells the speaker, as ``0a7c2a8d_nohash_0.wav`` does; of other names nobody is known."""
    speaker, named, _ = path.name.partition("_nohash_")
    return Utterance(path, label, _id(path), speaker=speaker if named else "")


def _silence(path: Path, start: int | None = None, suffix: str = "", weight: float = 1.0) -> Utterance:
    return Utterance(path, (_INDEX["_silence_"],), _id(path) + suffix, weight, start, audio.SAMPLE_RATE)


def _seconds(path: Path) -> Iterator[Utterance]:
    whole = audio.length(path) // audio.SAMPLE_RATE
    if whole == 0:
        raise InputError(
            f"{path}: shorter than one second. Expected background noise of at least 1 s for _silence_."
        )
    for second in range(whole):
        yield _silence(path, second * audio.SAMPLE_RATE, f"#{second}", 1 / whole)


def _balanced(words: list[Utterance], silence: list[Utterance], silence_files: int) -> list[Utterance]:
    """Weights that sum, per class, to the length of S3PRL's list (``silence_files`` of it silence).

    Within a class each file has the same weight, in dev shared by the seconds of it.
    """
    utterances = words + silence
    counts: dict[tuple[int, ...], float] = defaultdict(float)
    for utterance in utterances:
        counts[utterance.label] += utterance.weight
    mass = len(words) + silence_files
    return [replace(u, weight=u.weight * mass / counts[u.label]) for u in utterances]


def _test_set(root: Path) -> Iterator[Utterance]:
    for folder in subfolders(root):
        if folder.name not in _INDEX:
            raise InputError(
                f"{folder}: not a class of the test set. Expected folders named {', '.join(CLASSES)}."
            )
        for path in wav_files(folder):
            yield _word(path, (_INDEX[folder.name],))


def _all_words(root: Path) -> Corpus:
    words = tuple(folder.name for folder in subfolders(root) if not folder.name.startswith(("_", ".")))
    if len(words) != 35:
        raise InputError(
            f"{root}: Expected the 35 word folders of Speech Commands v0.02, but got {len(words)}."
        )
    files = {f"{word}/{path.name}": path for word in words for path in wav_files(root / word)}
    listed = {
        "dev": _official_list(root / "validation_list.txt", root),
        "test": _official_list(root / "testing_list.txt", root),
    }
    held_out = {name for names in listed.values() for name in names}
    listed["train"] = [name for name in files if name not in held_out]
    index = {word: position for position, word in enumerate(words)}
    splits = {
        split: [_word(files[name], (index[name.split("/")[0]],)) for name in listed[split]]
        for split in ("train", "dev", "test")
    }
    return Corpus("speech_commands", splits, (words,), GAIN_DB)


def _official_list(list_file: Path, root: Path) -> list[str]:
    names = read_list(list_file, "lines like yes/0a7c2a8d_nohash_0.wav").splitlines()
    listing, missing = Listing(), []
    for number, name in enumerate(names, start=1):
        if not re.fullmatch(r"[^/]+/[^/]+\.wav", name):
            raise InputError(f"{list_file}, line {number}: Expected <word>/<file>.wav, but got {name!r}.")
        if str(root / name) not in listing:
            missing.append((f"line {number}", root / name))
    if missing:
        raise missing_files(list_file, missing, len(names))
    return names
