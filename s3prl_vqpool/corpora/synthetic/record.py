"""The embedded corpora: synthetic speech in the layout of the four corpora, for first tries.

Nobody said any of it: espeak-ng speaks, and noise is added. Speakers are voice variants with a rate and a
pitch, emotions are speaking styles. An accuracy on these corpora compares with another accuracy on them,
never with one on real speech.

==== ================================ ==========================================================
task folders in ``out``               laid out as
==== ================================ ==========================================================
ks   speech_commands_v0.01,           Speech Commands and its test set; speaker ids are chosen so
     speech_commands_test_set_v0.01   that S3PRL's hash splits them
sid  VoxCeleb1                        VoxCeleb1; ``split.txt`` is its list; a session is one room
ic   fluent_speech_commands_dataset   Fluent Speech Commands, with its 31 intents
er   IEMOCAP                          IEMOCAP, with S3PRL's meta_data
==== ================================ ==========================================================
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError, unknown_name
from ..audio import SAMPLE_RATE
from ..iemocap import LABELS
from ..speech_commands import BACKGROUND, CLASSES, speaker_split
from . import script
from .espeak import Espeak, Voice
from .studio import COLOURS, Studio, write

STAMP = "SYNTHETIC.json"
RECIPE = 1
"""Raised when the same size and seed begin to give other files."""


@dataclass(frozen=True)
class Size:
    """How much is recorded.

    Attributes:
        ks_speakers, ic_speakers: speakers in train, dev, test, nobody in two of them.
        ks_unknown: words beside the keywords that each speaker says.
        noise_seconds: length of each background noise.
        sid_speakers: speakers of VoxCeleb1; sid_sessions: sessions of each in train, dev, test;
            sid_utterances: utterances per session.
        er_sentences: utterances per actor and emotion.
    """

    ks_speakers: tuple[int, int, int]
    ks_unknown: int
    noise_seconds: int
    sid_speakers: int
    sid_sessions: tuple[int, int, int]
    sid_utterances: int
    ic_speakers: tuple[int, int, int]
    er_sentences: int


SIZES = {
    "default": Size((60, 8, 12), 5, 30, 12, (3, 1, 2), 8, (12, 2, 4), 8),
    "small": Size((3, 1, 1), 2, 10, 8, (1, 1, 1), 2, (1, 1, 1), 2),
}


def synthesise(
    out: str | Path, tasks: Sequence[str] | None = None, size: str = "default", seed: int = 0
) -> dict[str, dict[str, str]]:
    """Synthesise the corpora of ``tasks`` (None: of all `TASKS`) in ``out``; S3PRL's ``datarc`` entries for each.

    A corpus appears under its name when it is complete, with a file ``SYNTHETIC.json`` in it that says
    what it is. What is there already with the same size and seed is reused; what a killed run left is
    made anew. The same size and seed give the same files, byte for byte.

    Raises:
        InputError: an unknown task or size, no ``espeakng-loader``, or a folder of that name that holds
            something else (which is never touched).
    """
    out, tasks = Path(out), TASKS if tasks is None else tasks
    for task in tasks:
        if task not in _RECORDERS:
            raise unknown_name("task", task, _RECORDERS)
    if size not in SIZES:
        raise unknown_name("size", size, SIZES)
    for task in tasks:
        _record(out, task, size, seed)
    entries = {
        "ks": {
            "speech_commands_root": out / "speech_commands_v0.01",
            "speech_commands_test_root": out / "speech_commands_test_set_v0.01",
        },
        "sid": {"file_path": out / "VoxCeleb1", "meta_data": out / "VoxCeleb1" / "split.txt"},
        "ic": {"file_path": out / "fluent_speech_commands_dataset"},
        "er": {"root": out / "IEMOCAP", "meta_data": out / "IEMOCAP" / "meta_data"},
    }
    return {task: {key: str(path) for key, path in entries[task].items()} for task in tasks}


def _record(out: Path, task: str, size: str, seed: int) -> None:
    recorder, folders = _RECORDERS[task]
    what = "synthetic speech by espeak-ng, see s3prl_vqpool.corpora.synthetic"
    stamp = json.dumps({"what": what, "recipe": RECIPE, "size": size, "seed": seed})
    absent = [name for name in folders if not (out / name).exists()]
    for name in set(folders) - set(absent):
        if not (out / name / STAMP).is_file() or (out / name / STAMP).read_text() != stamp:
            raise InputError(
                f"{out / name}: already there, and not this corpus (synthetic, size {size}, seed {seed})."
                " Choose another folder, or remove it."
            )
    if not absent:
        return
    partial = out / f".{task}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    with Espeak() as espeak:
        recorder(partial, Studio(espeak, (seed, list(_RECORDERS).index(task))), SIZES[size])
    for name in absent:
        (partial / name / STAMP).write_text(stamp)
        (partial / name).rename(out / name)
    shutil.rmtree(partial)


def _speech_commands(out: Path, studio: Studio, size: Size) -> None:
    speakers = studio.speakers()
    train, test = out / "speech_commands_v0.01", out / "speech_commands_test_set_v0.01"
    for name, exponent in COLOURS.items():
        write(train / BACKGROUND / f"{name}.wav", studio.noise(size.noise_seconds * SAMPLE_RATE, exponent))
    for split, count in zip(("train", "dev"), size.ks_speakers):
        for _ in range(count):
            for word, name, samples in _spoken_words(studio, next(speakers), split, size):
                write(train / word / name, samples)
    for _ in range(size.ks_speakers[2]):
        for word, name, samples in _spoken_words(studio, next(speakers), None, size):
            write(test / word / name if word in CLASSES else test / "_unknown_" / f"{word}_{name}", samples)
    for number in range(2 * size.ks_speakers[2]):
        noise = studio.noise(SAMPLE_RATE, studio.random.uniform(0, 2), studio.random.uniform(0.005, 0.1))
        write(test / "_silence_" / f"{number}.wav", noise)


def _spoken_words(
    studio: Studio, voice: Voice, split: str | None, size: Size
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(word, file name, samples) of one speaker: each keyword twice, some other words."""
    speaker = _hashed_speaker(studio, split)
    unknown = studio.random.permutation(script.UNKNOWN)[: size.ks_unknown].tolist()
    for word in (*CLASSES[:10], *unknown):
        for number in range(2 if word in CLASSES else 1):
            yield word, f"{speaker}_nohash_{number}.wav", studio.clip(word, voice, studio.room())


def _hashed_speaker(studio: Studio, split: str | None) -> str:
    """An id of 8 hex digits that S3PRL's hash puts in ``split`` (None: keeps out for test)."""
    while True:
        speaker = f"{studio.random.integers(2**32):08x}"
        if speaker_split(f"{speaker}_nohash_0.wav") == split:
            return speaker


def _voxceleb1(out: Path, studio: Studio, size: Size) -> None:
    root, lines = out / "VoxCeleb1", []
    splits = [split for split, count in zip((1, 2, 3), size.sid_sessions) for _ in range(count)]
    for number, voice in zip(range(size.sid_speakers), studio.speakers()):
        partition = "dev" if number < size.sid_speakers - 2 else "test"
        for split in splits:
            session, room = f"{studio.random.integers(2**44):011x}", studio.room()
            for utterance in range(1, size.sid_utterances + 1):
                relative = f"id{10001 + number}/{session}/{utterance:05d}.wav"
                samples = studio.take(studio.one_of(script.SENTENCES), voice, room)
                write(root / partition / "wav" / relative, samples)
                lines.append(f"{split} {relative}\n")
    (root / "split.txt").write_text("".join(lines))


def _fluent_commands(out: Path, studio: Studio, size: Size) -> None:
    root, speakers = out / "fluent_speech_commands_dataset", studio.speakers()
    (root / "data").mkdir(parents=True)
    for split, count in zip(("train", "valid", "test"), size.ic_speakers):
        rows = [row for _ in range(count) for row in _commands(studio, next(speakers), root)]
        with open(root / "data" / f"{split}_data.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
            table.writerows((number, *row) for number, row in enumerate(rows))


def _commands(studio: Studio, voice: Voice, root: Path) -> Iterator[tuple[str, ...]]:
    """Record one speaker saying every intent in two of its ways; yields the rows of the table."""
    speaker = f"{studio.random.integers(2**48):012x}"
    for intent, sentences in script.COMMANDS.items():
        for sentence in studio.random.permutation(sentences)[:2].tolist():
            relative = f"wavs/speakers/{speaker}/{studio.random.integers(2**60):015x}.wav"
            write(root / relative, studio.take(sentence, voice, studio.room()))
            yield (relative, speaker, sentence, *intent)


def _iemocap(out: Path, studio: Studio, size: Size) -> None:
    root = out / "IEMOCAP"
    sessions = {f"Session{number}": list(_session(root, studio, number, size)) for number in range(1, 6)}
    for held_out, test in sessions.items():
        train = [turn for name, turns in sessions.items() if name != held_out for turn in turns]
        folder = root / "meta_data" / held_out
        folder.mkdir(parents=True)
        for split, turns in (("train", train), ("test", test)):
            content = {"labels": LABELS, "meta_data": turns}
            (folder / f"{split}_meta_data.json").write_text(json.dumps(content, indent=1))


def _session(root: Path, studio: Studio, number: int, size: Size) -> Iterator[dict[str, str]]:
    """Record a session's two actors, one dialog each; yields the rows of the meta data."""
    for gender, voice in (("F", next(studio.speakers("F"))), ("M", next(studio.speakers("M")))):
        actor, room, clock, lines = f"Ses{number:02d}{gender}", studio.room(), 5.0, []
        dialog = f"{actor}_impro01"
        emotions = [emotion for emotion in LABELS for _ in range(size.er_sentences)]
        for turn_number, emotion in enumerate(studio.random.permutation(emotions).tolist()):
            turn = f"{dialog}_{gender}{turn_number:03d}"
            relative = f"Session{number}/sentences/wav/{dialog}/{turn}.wav"
            acted = "exc" if emotion == "hap" and turn_number % 2 else emotion
            rate, pitch, span, volume = script.STYLES[acted]
            spoken = Voice(voice.name, rate, voice.pitch + pitch, span, volume)
            samples = studio.take(studio.one_of(script.SENTENCES), spoken, room)
            write(root / relative, samples)
            end = clock + len(samples) / SAMPLE_RATE
            lines.append(f"[{clock:.4f} - {end:.4f}]\t{turn}\t{acted}\t[2.5000, 2.5000, 2.5000]\n")
            clock = end + 1
            yield {"path": relative, "label": emotion, "speaker": actor}
        evaluation = root / f"Session{number}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        evaluation.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write_text("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(lines))


_RECORDERS: dict[str, tuple[Callable[[Path, Studio, Size], None], tuple[str, ...]]] = {
    "ks": (_speech_commands, ("speech_commands_v0.01", "speech_commands_test_set_v0.01")),
    "sid": (_voxceleb1, ("VoxCeleb1",)),
    "ic": (_fluent_commands, ("fluent_speech_commands_dataset",)),
    "er": (_iemocap, ("IEMOCAP",)),
}
TASKS = tuple(_RECORDERS)
"""The tasks that have a synthetic corpus."""
