"""Emotion recognition on IEMOCAP, as S3PRL's ``downstream/emotion`` splits it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, unknown_name
from ..files import parse_json
from .base import Corpus, Utterance
from .folders import IEMOCAP, Listing, corpus_root, hidden, missing_files, read_list, subfolders, wav_files

FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")
_SESSIONS = tuple(fold.replace("fold", "Session") for fold in FOLDS)
_TURN = re.compile(r"\[[^\t\n]*\t(\S+)\t(neu|hap|ang|sad|exc)\t")
_NAME = re.compile(r"(Ses\d+)[FM]_.*_([FM])\d+")
LABELS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
_PURPOSE = '{"labels": {name: index}, "meta_data": [{"path": ..., "label": ...}]}'


def iemocap(
    root: str | Path, meta_data: str | Path | None = None, fold: str = "fold1", valid_ratio: float = 0.2
) -> Corpus:
    """IEMOCAP with one session held out for test, ``valid_ratio`` of the others for dev.

    ``meta_data`` holds ``Session<N>/{train,test}_meta_data.json``, as S3PRL's ``IEMOCAP_preprocess.py``
    writes them; None is ``root/meta_data``, and where that does not exist the same lists are built from
    ``dialog/EmoEvaluation`` in memory. Train and dev are S3PRL's permutation (``torch.manual_seed(0)``,
    ``random_split``, which is one ``randperm``), drawn without touching the process's generator.

    With ``meta_data`` the corpus may be any: labels and files are those that it lists, as in S3PRL.

    Raises:
        InputError: an unknown fold, malformed JSON, a file that is listed but missing (the first one named, all
            counted); without ``meta_data`` also a folder that is not IEMOCAP, or one that lacks a session.
    """
    if fold not in FOLDS:
        raise unknown_name("IEMOCAP fold", fold, FOLDS)
    if not isinstance(valid_ratio, (int, float)) or not 0 < valid_ratio < 1:
        raise InputError(f"IEMOCAP: Expected valid_ratio between 0 and 1, but got {valid_ratio!r}.")
    session = fold.replace("fold", "Session")
    folder = Path(meta_data) if meta_data else Path(root) / "meta_data"
    if meta_data or folder.is_dir():
        names, rest, test = _from_json(Path(root), folder / session)
    else:
        names, rest, test = _from_evaluation(corpus_root(root, IEMOCAP), session)
    trained = int((1 - valid_ratio) * len(rest))
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0)).tolist()
    train, dev = [rest[index] for index in order[:trained]], [rest[index] for index in order[trained:]]
    return Corpus("emotion", {"train": train, "dev": dev, "test": test}, (names,))


def load(datarc: Mapping[str, Any], fold: str) -> Corpus:
    """`iemocap` by the keys of a config's `datarc`."""
    return iemocap(datarc["root"], datarc.get("meta_data"), fold, datarc.get("valid_ratio", 0.2))


def _from_json(root: Path, folder: Path) -> tuple[tuple[str, ...], list[Utterance], list[Utterance]]:
    if not root.is_dir() or not folder.is_dir():
        corpus_root(root, IEMOCAP)
    train_labels, train = _parse(root, folder / "train_meta_data.json")
    test_labels, test = _parse(root, folder / "test_meta_data.json")
    if train_labels != test_labels:
        raise InputError(f"{folder}: train_meta_data.json and test_meta_data.json have different labels.")
    return tuple(sorted(train_labels, key=train_labels.__getitem__)), train, test


def _parse(root: Path, file: Path) -> tuple[dict[str, int], list[Utterance]]:
    content = parse_json(read_list(file, _PURPOSE), str(file), f"Expected {_PURPOSE}.")
    if not _well_formed(content):
        raise InputError(f"{file}: Expected {_PURPOSE}.")
    labels, rows = content["labels"], [(row["path"], row["label"]) for row in content["meta_data"]]
    if sorted(labels.values()) != list(range(len(labels))):
        raise InputError(f"{file}: Expected labels numbered 0 .. {len(labels) - 1}, but got {labels}.")
    listing, missing = Listing(), []
    for number, (relative, label) in enumerate(rows):
        if label not in labels:
            raise InputError(
                f"{file}, meta_data[{number}]: label {label!r} is not one of: {', '.join(labels)}."
            )
        if root / relative not in listing:
            missing.append((f"meta_data[{number}]", root / relative))
    if missing:
        corpus_root(root, IEMOCAP)  # if it is another corpus, this message says more
        raise missing_files(file, missing, len(rows))
    return labels, [_utterance(root / path, labels[label], Path(path).stem) for path, label in rows]


def _utterance(path: Path, label: int, name: str) -> Utterance:
    """With its speaker, who is the session's F or M: ``Ses01F`` of the turn ``Ses01M_impro01_F000``."""
    found = _NAME.fullmatch(name)
    return Utterance(path, (label,), name, speaker=found[1] + found[2] if found else "")


def _well_formed(content: Any) -> bool:
    """Whether it is `_PURPOSE`."""
    if not isinstance(content, dict):
        return False
    labels, rows = content.get("labels"), content.get("meta_data")
    return (
        isinstance(labels, dict)
        and all(type(index) is int for index in labels.values())
        and isinstance(rows, list)
        and all(isinstance(row, dict) for row in rows)
        and all(isinstance(row.get(key), str) for row in rows for key in ("path", "label"))
    )


def _from_evaluation(root: Path, held_out: str) -> tuple[tuple[str, ...], list[Utterance], list[Utterance]]:
    """The lists that ``IEMOCAP_preprocess.py`` writes, with files in sorted order."""
    sessions = {folder.name: folder for folder in subfolders(root)}
    absent = [name for name in _SESSIONS if name not in sessions]
    if absent:
        raise InputError(
            f"{root}: lacks {', '.join(absent)}. Expected {IEMOCAP.expected}; to use a part of it, list its files in"
            " meta_data."
        )
    utterances: dict[str, list[Utterance]] = {}
    missing: list[tuple[Path, str, Path]] = []
    for name in _SESSIONS:
        utterances[name], lacking = _evaluated(sessions[name])
        missing += lacking
    if missing:
        total = sum(map(len, utterances.values())) + len(missing)
        file, where, path = missing[0]
        raise missing_files(file, [(where, path)] * len(missing), total)
    test = utterances.pop(held_out)
    return tuple(LABELS), [each for rest in utterances.values() for each in rest], test


def _evaluated(session: Path) -> tuple[list[Utterance], list[tuple[Path, str, Path]]]:
    """Utterances of a session, and the files that its lists name but that are not there: list, line, file."""
    audio = session / "sentences" / "wav"
    dialogs = subfolders(audio) if audio.is_dir() else []
    wavs = {path.stem: path for dialog in dialogs for path in wav_files(dialog)}
    texts = sorted((session / "dialog" / "EmoEvaluation").glob("*.txt"))
    lists = [path for path in texts if not hidden(path.name)]
    if not lists:
        raise InputError(f"{session}: has no dialog/EmoEvaluation/*.txt. Fetch the corpus again.")
    utterances, missing = [], []
    for file in lists:
        for number, line in enumerate(read_list(file, "EmoEvaluation lines").splitlines(), start=1):
            found = _TURN.match(line)
            if found and found[1] in wavs:
                emotion = found[2].replace("exc", "hap")
                utterances.append(_utterance(wavs[found[1]], LABELS[emotion], found[1]))
            elif found:
                dialog = found[1].rpartition("_")[0]
                missing.append((file, f"line {number}", audio / dialog / f"{found[1]}.wav"))
    return utterances, missing
