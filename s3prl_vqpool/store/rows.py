"""What is in a store: the utterances of all splits of a downstream's corpus, each once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..corpora import Corpus, Utterance, audio
from ..corpora.tasks import by_downstream
from ..runner.config import Section, datarc_of, workers

Key = tuple[str, int | None, int | None]


@dataclass(frozen=True)
class Row:
    """One utterance of a store.

    Attributes:
        id: the utterance's name in prediction files; `#k` is added for the k-th window of a random excerpt's file.
        path: the audio file, absolute.
        start, frames: an excerpt, in samples at 16 kHz; both None for the whole file.
        samples: samples at 16 kHz that the upstream was given.
        length: frames that the audio really has, T.
        label: one class index per slot.
        sha256: of those samples, as little-endian float32.
        bytes, modified: size of the file, and when it was modified, in ns; None in stores of earlier versions.
    """

    id: str
    path: Path
    start: int | None
    frames: int | None
    samples: int
    length: int
    label: tuple[int, ...]
    sha256: str
    bytes: int | None = None
    modified: int | None = None


@dataclass(frozen=True)
class Listing:
    """What a corpus gives to a store: ``utterances`` without repetition and, per utterance, its ``samples``.

    ``divisions`` is the corpus divided by each fold, where it is at hand.
    """

    utterances: list[Utterance]
    samples: list[int]
    gain_db: float
    workers: int
    divisions: Mapping[str, Corpus] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The folder that all files lie in."""
        return os.path.commonpath([os.path.dirname(utterance.path) for utterance in self.utterances])

    @property
    def sha256(self) -> str:
        """Hash of the list: files, excerpts, lengths, names, labels and their order."""
        digest = hashlib.sha256()
        for u, samples in zip(self.utterances, self.samples):
            entry = [str(u.path), u.start, u.frames, samples, u.id, list(u.label)]
            digest.update(f"{json.dumps(entry)}\n".encode())
        return digest.hexdigest()


def listing(downstream: str, config: dict[str, Any]) -> Listing:
    """Every utterance of train, dev and test of a downstream, in that order, fold after fold.

    An utterance that several splits or folds share comes once. A training utterance that is a random excerpt
    (Speech Commands' `_silence_`) becomes the consecutive whole windows of that length of its file.

    Args:
        downstream: name of one of this project's downstreams.
        config: as the runner reads it; `downstream_expert` says where the corpus is.

    Raises:
        InputError: an unknown key of `datarc` or fold, a corpus that is not complete or not valid, or a file that
            is not audio.
    """
    section = Section("config.downstream_expert", config["downstream_expert"])
    datarc = datarc_of(downstream, section["datarc"])
    task = by_downstream(downstream)
    task.fold(datarc)
    divisions = dict(task.divisions(datarc))
    splits = [split for corpus in divisions.values() for split in corpus.splits.values()]
    found: dict[Key, Utterance] = {}
    for utterance in _windows(utterance for split in splits for utterance in split):
        found.setdefault(key(utterance), _absolute(utterance))
    utterances = list(found.values())
    headers = tqdm(utterances, desc="reading headers", unit="file", leave=False, disable=None)
    samples = [u.frames if u.frames is not None else audio.length(u.path) for u in headers]
    gain_db = next(iter(divisions.values())).gain_db
    return Listing(utterances, samples, gain_db, workers(datarc), divisions)


def key(utterance: Utterance) -> Key:
    """The key by which a store finds an utterance. A random excerpt counts as the first window of its file."""
    start = 0 if utterance.start is None and utterance.frames is not None else utterance.start
    return os.path.abspath(utterance.path), start, utterance.frames


def _absolute(utterance: Utterance) -> Utterance:
    """The utterance with an absolute path; itself where it has one, as there may be millions."""
    path = os.path.abspath(utterance.path)
    return utterance if path == str(utterance.path) else replace(utterance, path=Path(path))


def _windows(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    for utterance in utterances:
        if utterance.start is not None or utterance.frames is None:
            yield utterance
            continue
        for k in range(max(audio.length(utterance.path) // utterance.frames, 1)):
            yield replace(utterance, id=f"{utterance.id}#{k}", start=k * utterance.frames)
