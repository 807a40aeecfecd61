"""Reading audio: any file that libsndfile opens, as 16 kHz mono float32, with one-line errors.

Takes the place of ``torchaudio.load`` and of ``torchaudio.sox_effects`` in S3PRL's datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..errors import InputError

SAMPLE_RATE = 16000
MIN_SAMPLES = 400
"""One frame of the upstreams: 25 ms at 16 kHz."""

_DATA_CHUNK = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFFF000
"""Writers that stream a WAV to a pipe declare a length from here up, meaning "until the end"."""


def read(path: str | Path, gain_db: float = 0.0, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Samples of a file: channels averaged, resampled to 16 kHz (soxr HQ), float32 [samples].

    ``start`` and ``frames`` choose an excerpt, counted in samples at 16 kHz; ``frames=None`` reads to
    the end. A file that is 16 kHz already is read from ``start`` on only.

    ``gain_db`` other than 0 is sox's ``gain`` as S3PRL's Speech Commands dataset applies it (``channels
    1, rate 16000, gain -3.0``). sox works on integers and clips at full scale before its gain; so does
    this. Largest difference from ``torchaudio.sox_effects.apply_effects_file`` 2.5.1: 6e-8 on 211 real
    clips at 16 kHz; where 8 to 48 kHz were resampled, 1.2e-6 on speech and 2e-4 on white noise of
    level 0.1 (the filters differ next to 8 kHz).

    Raises:
        InputError: no such file, not audio, truncated, zero samples, NaN or infinite samples, fewer
            samples than one 25 ms frame, or an excerpt beyond the end.
    """
    with _opened(path) as file:
        if file.samplerate == SAMPLE_RATE:
            file.seek(min(start, file.frames))
            count = file.frames - file.tell() if frames is None else frames
            samples = _mono(file, path, min(count, file.frames - file.tell()))
        else:
            samples = soxr.resample(
                _mono(file, path, file.frames), file.samplerate, SAMPLE_RATE, quality="HQ"
            )
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


def length(path: str | Path) -> int:
    """Samples that a file has at 16 kHz, from its header alone (rounded down when it is resampled).

    Raises:
        InputError: as :func:`read`, as far as a header shows it.
    """
    with _opened(path) as file:
        return file.frames * SAMPLE_RATE // file.samplerate


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    if not Path(path).is_file():
        problem = "is a folder, not an audio file" if Path(path).is_dir() else "no such file"
        raise InputError(f"{path}: {problem}. Check the path, or the list that names it.")
    try:
        file = soundfile.SoundFile(str(path))
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path}: not audio that libsndfile can read ({error.error_string.strip().rstrip('.')})."
            " Expected WAV, FLAC, OGG or MP3: convert the file, or fetch it again."
        ) from error
    with file:
        declared, there = _data_bytes(file)
        if there < declared < _UNKNOWN_LENGTH:
            raise _truncated(path, f"the header promises {declared} bytes of samples, {there} are there")
        if file.frames == 0:
            raise InputError(f"{path}: zero samples. Fetch the file again, or take it out of the list.")
        yield file


def _data_bytes(file: soundfile.SoundFile) -> tuple[int, int]:
    """(declared, found) size of a WAV's samples; libsndfile itself silently cuts a truncated WAV short."""
    mismatch = _DATA_CHUNK.search(file.extra_info)
    return (int(mismatch[1]), int(mismatch[2])) if mismatch else (0, 0)


def _mono(file: soundfile.SoundFile, path: str | Path, count: int) -> np.ndarray:
    try:
        samples = file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _truncated(path, error.error_string.strip().rstrip(".")) from error
    if len(samples) < count:
        raise _truncated(
            path, f"the header promises {file.frames} samples, reading stops after {file.tell()}"
        )
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)


def _truncated(path: str | Path, details: str) -> InputError:
    return InputError(f"{path}: truncated or damaged ({details}). Fetch the file again.")
