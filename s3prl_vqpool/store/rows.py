"""What is in a store: the utterances of all splits of a downstream's corpus, each once."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..corpora import Corpus, Utterance, audio
from ..corpora.base import Utterances
from ..corpora.packed import repeated
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

    ``divisions`` is the corpus divided by each fold, if it is drawn.
    """

    utterances: Sequence[Utterance]
    samples: Sequence[int]
    gain_db: float
    workers: int
    divisions: Mapping[str, Corpus] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The folder that all files lie in."""
        folders = (os.path.dirname(utterance.path) for utterance in self.utterances)
        return reduce(lambda one, other: os.path.commonpath([one, other]), folders)

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
    utterances = Utterances(map(_absolute, _once(splits)))
    headers = tqdm(utterances, desc="reading headers", unit="file", leave=False, disable=None)
    samples = array("q", (u.frames if u.frames is not None else audio.length(u.path) for u in headers))
    first = next(iter(divisions.values()))
    return Listing(utterances, samples, first.gain_db, workers(datarc), divisions if first.drawn else {})


def key(utterance: Utterance) -> Key:
    """The key by which a store finds an utterance. A random excerpt counts as the first window of its file."""
    start = 0 if utterance.start is None and utterance.frames is not None else utterance.start
    return os.path.abspath(utterance.path), start, utterance.frames


def _absolute(utterance: Utterance) -> Utterance:
    return replace(utterance, path=Path(os.path.abspath(utterance.path)))


def _once(splits: Sequence[Iterable[Utterance]]) -> Iterator[Utterance]:
    """The utterances of all splits, each once."""

    def every() -> Iterator[Utterance]:
        return _windows(chain.from_iterable(splits))

    found: set[Key] = set()
    for utterance, comes_again in zip(every(), repeated(map(key, every()))):
        if not comes_again:
            yield utterance
        elif key(utterance) not in found:
            found.add(key(utterance))
            yield utterance


def _windows(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    for utterance in utterances:
        if utterance.start is not None or utterance.frames is None:
            yield utterance
            continue
        for k in range(max(audio.length(utterance.path) // utterance.frames, 1)):
            yield replace(utterance, id=f"{utterance.id}#{k}", start=k * utterance.frames)
