"""Speaker identification on VoxCeleb1, as S3PRL's ``downstream/voxceleb1`` splits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .base import SPLITS, Corpus, Utterance, Utterances
from .folders import VOXCELEB1, Listing, corpus_root, missing_files, read_list, subfolders

_SPLITS = {"1": "train", "2": "dev", "3": "test"}


def voxceleb1(root: str | Path, meta_data: str | Path) -> Corpus:
    """VoxCeleb1 by its identification list: lines ``1|2|3 speaker/session/utterance.wav`` (train, dev, test).

    Files are looked for in ``root/*/wav/``. The classes are the speakers of the whole list, sorted, so
    the published list gives S3PRL's 1251 labels and any other list its own. Nothing is cached on disk.

    Raises:
        InputError: a folder that is not the corpus, a malformed line, or a missing file (the first one
            named, all counted).
    """
    root = corpus_root(root, VOXCELEB1)
    speakers = tuple(sorted({relative.split("/")[0] for _, _, relative in _rows(meta_data)}))
    label = {speaker: (index,) for index, speaker in enumerate(speakers)}
    partitions = [folder / "wav" for folder in subfolders(root) if (folder / "wav").is_dir()]
    splits = {split: Utterances() for split in SPLITS}
    listing, missing = Listing(), []
    for number, split, relative in _rows(meta_data):
        found = next((folder for folder in partitions if f"{folder}/{relative}" in listing), None)
        if found is None:
            missing.append((f"line {number}", Path("*/wav", relative)))
            continue
        speaker, session, name = relative.split("/")
        name = name.removesuffix(".wav")
        splits[split].append(Utterance(found / relative, label[speaker], f"{speaker}-{session}-{name}"))
    if missing:
        total = len(missing) + sum(map(len, splits.values()))
        raise missing_files(meta_data, [(where, root / path) for where, path in missing], total)
    return Corpus("voxceleb1", splits, (speakers,))


def load(datarc: Mapping[str, Any], _: str) -> Corpus:
    """`voxceleb1` by the keys of a config's `datarc`."""
    return voxceleb1(datarc["file_path"], datarc["meta_data"])


def _rows(meta_data: str | Path) -> Iterator[tuple[int, str, str]]:
    """(line number, split, relative path) of each line."""
    purpose = "lines like '1 id10001/1zcIwhmdeo4/00001.wav' (1 train, 2 dev, 3 test)"
    for number, line in enumerate(read_list(meta_data, purpose).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if (
            len(fields) != 2
            or fields[0] not in _SPLITS
            or not all(fields[1].split("/"))
            or fields[1].count("/") != 2
        ):
            raise InputError(f"{meta_data}, line {number}: Expected {purpose}, but got {line!r}.")
        yield number, _SPLITS[fields[0]], fields[1]
