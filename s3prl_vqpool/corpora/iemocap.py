"""Emotion recognition on IEMOCAP, as S3PRL's ``downstream/emotion`` splits it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from ..errors import InputError, unknown_name
from .base import Corpus, Utterance
from .folders import IEMOCAP, Listing, corpus_root, missing_files, read_list, subfolders

FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")
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

    Raises:
        InputError: a folder that is not the corpus, an unknown fold, malformed JSON, or a missing file
            (the first one named, all counted).
    """
    if fold not in FOLDS:
        raise unknown_name("IEMOCAP fold", fold, FOLDS)
    if not isinstance(valid_ratio, (int, float)) or not 0 < valid_ratio < 1:
        raise InputError(f"IEMOCAP: Expected valid_ratio between 0 and 1, but got {valid_ratio!r}.")
    root = corpus_root(root, IEMOCAP)
    session = fold.replace("fold", "Session")
    folder = Path(meta_data) if meta_data else root / "meta_data"
    if meta_data or folder.is_dir():
        names, rest, test = _from_json(root, folder / session)
    else:
        names, rest, test = _from_evaluation(root, session)
    trained = int((1 - valid_ratio) * len(rest))
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0)).tolist()
    train, dev = [rest[index] for index in order[:trained]], [rest[index] for index in order[trained:]]
    return Corpus("emotion", {"train": train, "dev": dev, "test": test}, (names,))


def _from_json(root: Path, folder: Path) -> tuple[tuple[str, ...], list[Utterance], list[Utterance]]:
    train_labels, train = _parse(root, folder / "train_meta_data.json")
    test_labels, test = _parse(root, folder / "test_meta_data.json")
    if train_labels != test_labels:
        raise InputError(f"{folder}: train_meta_data.json and test_meta_data.json have different labels.")
    return tuple(sorted(train_labels, key=train_labels.__getitem__)), train, test


def _parse(root: Path, file: Path) -> tuple[dict[str, int], list[Utterance]]:
    try:
        content = json.loads(read_list(file, _PURPOSE))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}, line {error.lineno}: malformed JSON ({error.msg}). Expected {_PURPOSE}."
        ) from error
    try:
        labels, rows = content["labels"], [(row["path"], row["label"]) for row in content["meta_data"]]
        well_formed = sorted(labels.values()) == list(range(len(labels)))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: Expected {_PURPOSE}.") from error
    if not well_formed:
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
        raise missing_files(file, missing, len(rows))
    return labels, [Utterance(root / path, (labels[label],), Path(path).stem) for path, label in rows]


def _from_evaluation(root: Path, held_out: str) -> tuple[tuple[str, ...], list[Utterance], list[Utterance]]:
    """What ``IEMOCAP_preprocess.py`` would write, with files in sorted order."""
    sessions = {folder.name: folder for folder in subfolders(root) if re.fullmatch(r"Session\d", folder.name)}
    if held_out not in sessions:
        raise InputError(f"{root}: no {held_out} to hold out for test. Expected {IEMOCAP.expected}.")
    test = _evaluated(sessions.pop(held_out))
    return (
        tuple(LABELS),
        [utterance for folder in sessions.values() for utterance in _evaluated(folder)],
        test,
    )


def _evaluated(session: Path) -> list[Utterance]:
    wavs = {path.stem: path for path in sorted((session / "sentences" / "wav").glob("*/*.wav"))}
    utterances = []
    for file in sorted((session / "dialog" / "EmoEvaluation").glob("[!.]*.txt")):
        turns = re.findall(
            r"^\[[^\t\n]*\t(\S+)\t(neu|hap|ang|sad|exc)\t", read_list(file, "EmoEvaluation lines"), re.M
        )
        for turn, emotion in turns:
            if turn in wavs:
                utterances.append(Utterance(wavs[turn], (LABELS[emotion.replace("exc", "hap")],), turn))
    return utterances
