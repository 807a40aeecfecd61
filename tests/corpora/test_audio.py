"""Reading audio: numbers against soundfile, closed forms and sox; one line for each kind of bad file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_folders import refused, tone, wav

from s3prl_vqpool.corpora import audio

SHRUNK = " The file is shorter than it was when the list was made."
NOT_AUDIO = (
    ": not audio that libsndfile can read (Format not recognised)."
    " Expected WAV, FLAC, OGG or MP3: convert the file, or fetch it again."
)
CUT = "the header promises 32000 bytes of samples, 19956 are there"
TAKE_OUT = " Take the file out of the list."


def test_read_at_16_khz_is_the_files_samples(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    path = wav(tmp_path / "noise.wav", noise)
    read = audio.read(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, soundfile.read(path, dtype="float32")[0])


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_resampling_keeps_frequency_phase_and_amplitude(tmp_path: Path, rate: int, subtype: str) -> None:
    read = audio.read(wav(tmp_path / "tone.wav", tone(1.0, rate), rate, subtype))
    assert len(read) == 16000
    np.testing.assert_allclose(read[500:-500], tone(1.0)[500:-500], atol=1e-4)


def test_resampling_removes_what_16_khz_cannot_hold(tmp_path: Path) -> None:
    above = tone(1.0, 48000, hertz=11000)
    read = audio.read(wav(tmp_path / "both.wav", above * 0.5 + tone(1.0, 48000) * 0.5, 48000, "FLOAT"))
    np.testing.assert_allclose(read[500:-500], 0.5 * tone(1.0)[500:-500], atol=1e-4)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5, hertz=300, amplitude=0.4), tone(0.5, hertz=700, amplitude=0.8)
    read = audio.read(wav(tmp_path / "stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-7)


def test_gain_scales_and_clips_before_it(tmp_path: Path) -> None:
    values = np.array([0.5, -0.25, 2.0, -3.0], np.float32)
    path = wav(tmp_path / "loud.wav", np.tile(values, 200), subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path)[:4], values)
    np.testing.assert_allclose(audio.read(path, -3.0)[:4], values.clip(-1, 1) * 10**-0.15, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_excerpt_is_a_slice_of_the_whole(tmp_path: Path, name: str, rate: int) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * rate).astype(np.float32)
    path = wav(tmp_path / name, noise, rate)
    whole = audio.read(path)
    np.testing.assert_array_equal(audio.read(path, start=3000, frames=9000), whole[3000:12000])
    np.testing.assert_array_equal(audio.read(path, start=3000), whole[3000:])
    with refused(path, ": Expected 9000 samples from 30000 on (16 kHz), but got 2000.", SHRUNK):
        audio.read(path, start=30000, frames=9000)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 16000, 22050, 44100, 48000, 768000])
@pytest.mark.parametrize("samples", [25000, 26001, 32049])
def test_length_is_what_read_gives(tmp_path: Path, rate: int, samples: int) -> None:
    path = wav(tmp_path / "a.wav", np.zeros(samples, np.float32), rate)
    assert audio.length(path) == len(audio.read(path))
    assert abs(audio.length(path) - samples * 16000 / rate) <= 0.5


@pytest.mark.parametrize("call", [audio.read, audio.length])
def test_missing_and_foreign_files_are_refused(tmp_path: Path, call: Callable) -> None:
    with refused(tmp_path / "a.wav", ": no such file. Check the path, or the list that names it."):
        call(tmp_path / "a.wav")
    with refused(tmp_path, ": is a folder, not an audio file. Check the path, or the list that names it."):
        call(tmp_path)
    for name, content in (("text.wav", b"yes, this is text"), ("empty.wav", b"")):
        (tmp_path / name).write_bytes(content)
        with refused(tmp_path / name, NOT_AUDIO):
            call(tmp_path / name)


@pytest.mark.parametrize("frames", [None, 500])
def test_truncated_wav_is_refused(tmp_path: Path, frames: int | None) -> None:
    path = wav(tmp_path / "cut.wav", tone(1.0))
    path.write_bytes(path.read_bytes()[:20000])
    with refused(path, ": truncated or damaged (", CUT, "). Fetch the file again."):
        audio.read(path, frames=frames)


def test_truncated_flac_is_refused(tmp_path: Path) -> None:
    path = wav(tmp_path / "cut.flac", np.random.default_rng(2).uniform(-1, 1, 16000).astype(np.float32))
    path.write_bytes(path.read_bytes()[:15000])
    with pytest.raises(
        audio.InputError, match=r"^[^\n]*cut\.flac: truncated or damaged \([^\n]*\)\. Fetch the file"
    ):
        audio.read(path)


@pytest.mark.parametrize("declared", [0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_from_a_pipe_has_no_length_and_is_read_to_the_end(tmp_path: Path, declared: int) -> None:
    path = wav(tmp_path / "piped.wav", tone(0.5))
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", declared)
    path.write_bytes(content)
    np.testing.assert_allclose(audio.read(path), tone(0.5), atol=1e-4)


def test_zero_samples_are_refused(tmp_path: Path) -> None:
    path = wav(tmp_path / "none.wav", np.zeros(0, np.float32))
    with refused(path, ": zero samples. Fetch the file again, or take it out of the list."):
        audio.read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_nan_and_infinity_are_refused(tmp_path: Path, value: float, rate: int) -> None:
    samples = tone(1.0)
    samples[700] = value
    path = wav(tmp_path / "bad.wav", samples, rate, "FLOAT")
    with refused(path, ": the audio holds NaN or infinite samples. Convert the file again from its source."):
        audio.read(path)


@pytest.mark.parametrize(("samples", "rate", "got"), [(100, 16000, 100), (399, 16000, 399), (199, 8000, 398)])
def test_less_than_one_frame_is_refused(tmp_path: Path, samples: int, rate: int, got: int) -> None:
    path = wav(tmp_path / "short.wav", np.zeros(samples, np.float32), rate)
    with refused(path, f": {got} samples at 16 kHz are less than one frame of 25 ms (400).", TAKE_OUT):
        audio.read(path)


@pytest.mark.parametrize(("samples", "rate"), [(400, 16000), (200, 8000)])
def test_one_frame_is_read(tmp_path: Path, samples: int, rate: int) -> None:
    path = wav(tmp_path / "frame.wav", np.full(samples, 0.25, np.float32), rate, "FLOAT")
    assert len(audio.read(path)) == 400


@pytest.fixture(scope="session")
def sox() -> Callable[[Path], np.ndarray]:
    """S3PRL's reading of Speech Commands; skips where torchaudio has no sox_effects (2.9 on) or no libsox."""
    try:
        if tuple(map(int, version("torchaudio").split(".")[:2])) >= (2, 9):
            pytest.skip("torchaudio 2.9 and later have no sox_effects")
    except PackageNotFoundError:
        pytest.skip("torchaudio is not installed")
    from torchaudio.sox_effects import apply_effects_file, effect_names

    try:
        effect_names()
    except OSError as error:
        pytest.skip(f"torchaudio finds no libsox ({error})")
    effects = [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]]
    return lambda path: apply_effects_file(str(path), effects)[0].squeeze(0).numpy()


def test_gain_equals_sox_on_real_clips(sox: Callable[[Path], np.ndarray], real_keywords: Path) -> None:
    clips = sorted((real_keywords / "speech_commands_test_set_v0.01").glob("*/*.wav"))[::20]
    for clip in clips:
        np.testing.assert_allclose(audio.read(clip, -3.0), sox(clip), rtol=0, atol=6e-8)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_resampling_equals_sox(
    sox: Callable[[Path], np.ndarray], tmp_path: Path, rate: int, subtype: str
) -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, (rate, 2)).astype(np.float32)
    path = wav(tmp_path / "noise.wav", noise, rate, subtype)
    np.testing.assert_allclose(audio.read(path, -3.0), sox(path), rtol=0, atol=3e-4)


def test_clipping_equals_sox(sox: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    path = wav(tmp_path / "loud.wav", np.random.default_rng(4).normal(0, 1, 16000), subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path, -3.0), sox(path), rtol=0, atol=6e-8)


def test_hours_of_samples() -> None:
    assert audio.hours(0) == 0
    assert audio.hours(3600 * 16000) == 1
    assert audio.hours(90 * 16000) == 0.025
