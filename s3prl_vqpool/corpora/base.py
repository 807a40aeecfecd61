"""What all corpora share: utterances, splits, and reading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from . import audio
from .packed import Packed, repeated
from .sampling import Draw

SPLITS = ("train", "dev", "test")

Label = tuple[int, ...]
Sample = tuple[np.ndarray, Label, str, float]


@dataclass(frozen=True)
class Utterance:
    """One labelled piece of audio.

    Attributes:
        path: the audio file.
        label: one class index per slot (one slot, except Fluent Speech Commands' three).
        id: the utterance's name in S3PRL's prediction files.
        weight: S3PRL's sampling weight.
        start, frames: an excerpt, in samples at 16 kHz. Both None: the whole file. Only ``frames``:
            a new random excerpt of that length at each reading.
        speaker: who speaks, where the corpus says so, else "". Empty as well where the speaker is the label.
    """

    path: Path
    label: Label
    id: str
    weight: float = 1.0
    start: int | None = None
    frames: int | None = None
    speaker: str = ""


class Utterances(Packed[Utterance]):
    """A list of utterances in little memory."""

    def _values(self, item: Utterance) -> list[Any]:
        u = item
        return [str(u.path), u.label, u.id, u.weight, u.start, u.frames, u.speaker]

    def _item(self, place: int, values: list[Any]) -> Utterance:
        path, label, *others = values
        return Utterance(Path(path), tuple(label), *others)


@dataclass(frozen=True)
class Corpus:
    """A corpus as S3PRL splits it.

    Attributes:
        name: S3PRL's name for the task, e.g. ``speech_commands``; of a user's own corpus the path of its table.
        splits: utterances of ``train``, ``dev`` and ``test``; kept as `Utterances`.
        classes: per slot, the class names in the order of their indices.
        gain_db: gain that S3PRL applies to this corpus's audio.
        slots: names of the slots of a label; empty where a label has one slot.
        drawn: whether the splits were drawn at random, and are not told by the corpus itself.
    """

    name: str
    splits: Mapping[str, Sequence[Utterance]]
    classes: tuple[tuple[str, ...], ...]
    gain_db: float = 0.0
    slots: tuple[str, ...] = ()
    drawn: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for an empty split, or for a file that is in two splits as a whole."""
        for split in SPLITS:
            if not self.splits[split]:
                raise InputError(
                    f"{self.name}: the {split} split is empty. Check the corpus folder and its lists."
                )
        splits = {
            name: each if isinstance(each, Utterances) else Utterances(each)
            for name, each in self.splits.items()
        }
        object.__setattr__(self, "splits", splits)
        split_of: dict[Path, str] = {}
        for path, split in compress(self._whole(), repeated(path for path, _ in self._whole())):
            if split_of.setdefault(path, split) != split:
                raise InputError(
                    f"{path}: is in {split_of[path]} and in {split} of {self.name}. Take it out of one of the lists."
                )

    def _whole(self) -> Iterator[tuple[Path, str]]:
        """Path and split of each utterance that is a whole file."""
        for split in SPLITS:
            yield from ((u.path, split) for u in self.splits[split] if u.frames is None)


def describe(corpus: Corpus) -> str:
    """One line: utterances per split, classes per slot."""
    counts = ", ".join(f"{split} {len(utterances)}" for split, utterances in corpus.splits.items())
    return f"{corpus.name}: {counts}; classes {' + '.join(str(len(names)) for names in corpus.classes)}"


class UtteranceDataset(Dataset[Sample]):
    """Reads utterances as ``(samples float32 [T], label, id, weight)``.

    Args:
        utterances: what to read.
        gain_db: see `s3prl_vqpool.corpora.audio.read`; usually ``corpus.gain_db``.
        max_samples: cut longer utterances to a random piece of this length (S3PRL's ``max_timestep``).
        preload: read everything now, and keep it.

    Random pieces of a `Draw` are drawn with its seed. Those of another index are drawn with torch's generator, which
    DataLoader seeds differently in each worker.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        gain_db: float = 0.0,
        max_samples: int | None = None,
        preload: bool = False,
    ) -> None:
        if max_samples is not None and max_samples < audio.MIN_SAMPLES:
            raise InputError(
                f"Expected max_timestep of at least {audio.MIN_SAMPLES} (25 ms), but got {max_samples}."
            )
        self.utterances = utterances
        self.gain_db = gain_db
        self.max_samples = max_samples
        self._wavs = [self._read(utterance) for utterance in utterances] if preload else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Sample:
        utterance = self.utterances[index]
        wav = self._wavs[index] if self._wavs is not None else self._read(utterance)
        generator = torch.Generator().manual_seed(index.seed) if isinstance(index, Draw) else None
        wav = _random_piece(wav, utterance.frames or self.max_samples, generator)
        return wav, utterance.label, utterance.id, utterance.weight

    def _read(self, utterance: Utterance) -> np.ndarray:
        if utterance.start is None:
            return audio.read(utterance.path, self.gain_db)
        return audio.read(utterance.path, self.gain_db, utterance.start, utterance.frames)


def collate(samples: Iterable[Sample]) -> Iterator[tuple]:
    """A batch as S3PRL's datasets hand it over: waveforms, labels, ids, weights, each a tuple."""
    return zip(*samples)


def _random_piece(wav: np.ndarray, size: int | None, generator: torch.Generator | None) -> np.ndarray:
    if size is None or len(wav) <= size:
        return wav
    start = int(torch.randint(len(wav) - size + 1, (), generator=generator))
    return wav[start : start + size]
