"""The recording of the embedded corpora: synthetic speakers, rooms with noise, levels, files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from ..audio import SAMPLE_RATE
from .espeak import Espeak, Voice

COLOURS = {"white_noise": 0.0, "pink_noise": 1.0, "brown_noise": 2.0}
"""Name of each noise, and the power of 1/frequency that its spectrum falls with."""

_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan")
# Without the Klatt voices: they draw on libc's rand(), which differs from one call to the next.
_LOW = "Alex Andy Gene Lee Marco Michael benjamin david edward gustave john m1 m3 m4 m7 max paul zac"
_HIGH = "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma linda shelby steph steph2 victor"
VARIANTS = {"M": _LOW.split(), "F": _HIGH.split()}

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Room:
    """Where a recording is made: the noise's colour, and how far below the speech it is."""

    exponent: float
    snr_db: float


class Studio:
    """Speakers and recordings drawn from one seed; the same calls in the same order give the same samples."""

    def __init__(self, espeak: Espeak, seed: Sequence[int]) -> None:
        self.random = np.random.default_rng(seed)
        self._espeak = espeak

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.random.integers(len(choices)))]

    def speakers(self, gender: str | None = None) -> Iterator[Voice]:
        """An endless series of speakers in random order. A voice repeats only with another rate and pitch."""
        variants = VARIANTS[gender] if gender else VARIANTS["M"] + VARIANTS["F"]
        names = [f"{accent}+{variant}" for accent, variant in itertools.product(_ACCENTS, variants)]
        while True:
            for index in self.random.permutation(len(names)):
                rate, pitch, span = (
                    int(self.random.integers(*bounds)) for bounds in ((145, 200), (30, 71), (35, 66))
                )
                yield Voice(names[index], rate, pitch, span)

    def room(self) -> Room:
        return Room(self.one_of(list(COLOURS.values())), self.random.uniform(8, 30))

    def take(self, text: str, voice: Voice, room: Room) -> np.ndarray:
        """One utterance with pauses around it: float32 [samples]."""
        before, after = self.random.integers(800, 4800, size=2)
        return self._in_room(self._speech(text, voice), before, after, room, voice.volume)

    def clip(self, text: str, voice: Voice, room: Room) -> np.ndarray:
        """One utterance somewhere in exactly one second: float32 [16000]."""
        speech = self._speech(text, voice)[:SAMPLE_RATE]
        before = int(self.random.integers(SAMPLE_RATE - len(speech) + 1))
        return self._in_room(speech, before, SAMPLE_RATE - len(speech) - before, room, voice.volume)

    def noise(self, size: int, exponent: float, rms: float = 0.05) -> np.ndarray:
        """Noise whose power falls with 1/frequency to the ``exponent``: float32 [size] of level ``rms``."""
        points = 1 << (size - 1).bit_length()
        spectrum = np.fft.rfft(self.random.standard_normal(points))
        spectrum /= np.maximum(np.arange(len(spectrum)), points * 40 / SAMPLE_RATE) ** (exponent / 2)
        samples = np.fft.irfft(spectrum)[:size]
        return (samples * (rms / np.sqrt(np.mean(samples**2)))).astype(np.float32)

    def _speech(self, text: str, voice: Voice) -> np.ndarray:
        """``text``, spoken a little differently each time, without the near-silence that espeak-ng adds around it."""
        rate, pitch = voice.rate + self.random.integers(-12, 13), voice.pitch + self.random.integers(-5, 6)
        speech = self._espeak.say(text, replace(voice, rate=int(rate), pitch=int(pitch)))
        loud = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())
        return speech[loud[0] : loud[-1] + 1]

    def _in_room(self, speech: np.ndarray, before: int, after: int, room: Room, volume: int) -> np.ndarray:
        """Speech with noise around it, at a random level (up to 0.6 of full scale at volume 100)."""
        level = float(np.sqrt(np.mean(speech**2))) * 10 ** (-room.snr_db / 20)
        padded = np.pad(speech, (before, after))
        samples = padded + self.noise(len(padded), room.exponent, level)
        return samples * np.float32(self.random.uniform(0.3, 0.6) * volume / 100 / np.abs(samples).max())


def write(path: Path, samples: np.ndarray) -> None:
    """A 16 kHz, 16-bit WAV; makes the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.clip(-1, 1), SAMPLE_RATE, subtype="PCM_16")
