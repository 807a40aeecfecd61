"""Reading audio as 16 kHz mono float32, with one-line errors.

Replaces ``torchaudio.load`` and ``torchaudio.sox_effects`` in S3PRL's datasets. Samples are read in blocks until
decoding ends. The length that a header promises is not trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from ..errors import InputError
from . import containers

SAMPLE_RATE = 16000
MIN_SAMPLES = 400
"""One frame of the upstreams: 25 ms at 16 kHz."""
RATES = (1_000, 768_000)
"""Lowest and highest sample rate in Hz that is believed."""

_BLOCK = 2**18
"""Numbers that are decoded at once."""
_UNKNOWN = 2**62
"""libsndfile's number of frames where it knows none is from here up."""
_BELIEVED = 64
"""Frames per byte of a file that a header may promise without being checked; FLAC needs fewer but for silence."""


def read(path: str | Path, gain_db: float = 0.0, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Samples of a file: channels averaged, resampled to 16 kHz (soxr HQ), float32 [samples].

    ``start`` and ``frames`` choose an excerpt, counted in samples at 16 kHz; ``frames=None`` reads to
    the end. A file that is 16 kHz already is read from ``start`` on only.

    ``gain_db`` other than 0 is sox's ``gain`` as S3PRL's Speech Commands dataset applies it (``channels
    1, rate 16000, gain -3.0``). sox works on integers and clips at full scale before its gain; so does
    this. Largest difference from ``torchaudio.sox_effects.apply_effects_file`` 2.5.1: 6e-8 on 211 real
    clips at 16 kHz; where 8 to 48 kHz were resampled, 1.2e-6 on speech and 2e-4 on white noise of
    level 0.1 (the filters differ next to 8 kHz).

    Memory is a few times what the samples take, whatever the header promises.

    Raises:
        InputError: no such file, not audio, a format in which a cut file goes unnoticed, truncated, a sample
            rate outside `RATES`, zero samples, NaN or infinite samples, fewer samples than one 25 ms frame,
            or an excerpt beyond the end.
    """
    with _opened(path) as opened:
        if opened.file.samplerate == SAMPLE_RATE:
            samples = _joined(opened.blocks(start, frames))
        else:
            whole = _joined(opened.blocks())
            samples = soxr.resample(whole, opened.file.samplerate, SAMPLE_RATE, quality="HQ")
            samples = samples[start:] if frames is None else samples[start : start + frames]
    if frames is not None and len(samples) < frames:
        raise InputError(
            f"{path}: Expected {frames} samples from {start} on (16 kHz), but got {len(samples)}."
            " The file is shorter than it was when the list was made."
        )
    if len(samples) < MIN_SAMPLES:
        raise InputError(
            f"{path}: {len(samples)} samples at 16 kHz are less than one frame of 25 ms ({MIN_SAMPLES})."
            " Take the file out of the list."
        )
    if not np.isfinite(samples).all():
        raise InputError(
            f"{path}: the audio holds NaN or infinite samples. Convert the file again from its source."
        )
    if gain_db:
        samples = samples.clip(-1, 1) * np.float32(10 ** (gain_db / 20))
    return samples


def hours(samples: int) -> float:
    """Duration of so many samples at 16 kHz, in hours."""
    return samples / SAMPLE_RATE / 3600


def length(path: str | Path) -> int:
    """Samples that `read` gives of a file: from its header, or by decoding it where the header cannot be trusted.

    So it is with an MP3 without a Xing header, a FLAC that was written to a pipe, and a promise that is too large
    for the file.

    Raises:
        InputError: as `read`, as far as a header shows it.
    """
    with _opened(path) as opened:
        count = opened.promised
        if count is None or count > _BELIEVED * Path(path).stat().st_size:
            count = sum(map(len, opened.blocks()))
        rate = opened.file.samplerate
    return (2 * count * SAMPLE_RATE + rate) // (2 * rate)  # soxr rounds half up


class _Forward(soundfile.SoundFile):
    """soundfile seeks after each block that it reads. This fails if libsndfile does not know the length."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class _Opened:
    """A file that libsndfile decodes, and the number of frames that its header promises (None: unknown)."""

    path: str | Path
    file: _Forward
    promised: int | None

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Mono float32 [n] pieces of the frames from ``start`` on, ``count`` of them or all.

        Raises:
            InputError: decoding fails, or ends before the number of frames that the header promises.
        """
        skipped = self._skip(start)
        left = float("inf") if count is None else skipped + count
        total = start - skipped
        while left > 0:
            block = self._next(min(left, _BLOCK // self.file.channels))
            if not len(block):
                break
            total, left = total + len(block), left - len(block)
            if skipped < len(block):
                yield _mono(block[skipped:])
            skipped -= min(skipped, len(block))
        wanted = start + count if count is not None else total + 1
        if self.promised is not None and total < min(self.promised, wanted):
            raise _truncated(
                self.path, f"the header promises {self.promised} samples, decoding ends after {total}"
            )

    def _skip(self, start: int) -> int:
        """Go to frame ``start``; the number of frames that have to be decoded on the way there."""
        if start == 0 or self.promised is None or self.file.format in ("MP3", "OGG"):
            return start
        try:
            self.file.seek(min(start, self.promised))
        except soundfile.LibsndfileError:  # some codecs cannot seek
            return start
        return start - min(start, self.promised)

    def _next(self, count: float) -> np.ndarray:
        try:
            return self.file.read(int(count), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _truncated(self.path, _reason(error)) from error


def _joined(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def _mono(block: np.ndarray) -> np.ndarray:
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


@contextmanager
def _opened(path: str | Path) -> Iterator[_Opened]:
    if not Path(path).is_file():
        problem = "is a folder, not an audio file" if Path(path).is_dir() else "no such file"
        raise InputError(f"{path}: {problem}. Check the path, or the list that names it.")
    if Path(path).suffix.lower() == ".raw":
        raise InputError(
            f"{path}: raw samples do not say their sample rate and type. Convert the file to WAV."
        )
    try:
        with open(path, "rb") as source, ExitStack() as stack:
            yield _decoder(path, source, stack)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _decoder(path: str | Path, source: BinaryIO, stack: ExitStack) -> _Opened:
    """The file, once its header is known to make sense; ``stack`` closes what is opened."""
    try:
        file = stack.enter_context(_Forward(str(path)))
        _require_whole(path, source, file.format)
        promised: int | None = file.frames if file.frames < _UNKNOWN else None
        source.seek(0)
        if file.format == "MP3" and not containers.knows_length(source):
            file, promised = stack.enter_context(_Forward(containers.WithoutEnd(source))), None
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path}: not audio that libsndfile can read ({_reason(error)})."
            " Expected WAV, FLAC, OGG or MP3: convert the file, or fetch it again."
        ) from error
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise InputError(
            f"{path}: the header says {file.samplerate} Hz, expected {RATES[0]} to {RATES[1]} Hz."
            " Convert the file again from its source."
        )
    if promised == 0:
        raise InputError(f"{path}: zero samples. Fetch the file again, or take it out of the list.")
    return _Opened(path, file, promised)


def _require_whole(path: str | Path, source: BinaryIO, kind: str) -> None:
    if kind not in containers.CHECKED:
        raise InputError(
            f"{path}: is {kind}, in which a file that was cut short looks like a whole one."
            " Convert it to WAV or FLAC."
        )
    lacking = containers.missing(source, kind)
    if lacking:
        raise _truncated(path, lacking)


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.strip().rstrip(".")


def _truncated(path: str | Path, details: str) -> InputError:
    return InputError(f"{path}: truncated or damaged ({details}). Fetch the file again.")
