"""Files cut at any byte, of every format that libsndfile writes; and headers that do not say, or lie."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_folders import tone

from s3prl_vqpool.corpora import audio, containers
from s3prl_vqpool.errors import InputError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "audio"
HEADERLESS = ("RAW", "SD2")
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 24000).astype(np.float32)


def written(folder: Path, kind: str) -> list[tuple[Path, str]]:
    """A file of ``kind`` for each subtype that it has and a rate that it takes, and whether it is accepted."""
    made = []
    for subtype in soundfile.available_subtypes(kind):
        path = folder / f"whole.{subtype}.{kind.lower()}"
        for rate in (16000, 22050, 8000):
            try:
                soundfile.write(path, NOISE, rate, format=kind, subtype=subtype)
            except (soundfile.LibsndfileError, ValueError):
                continue
            made.append((path, subtype))
            break
    return made


def outcome(path: Path) -> np.ndarray | str:
    """What is read, or what is said where it is refused."""
    try:
        return audio.read(path)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("kind", sorted(set(soundfile.available_formats()) - set(HEADERLESS)))
def test_a_cut_file_is_refused_or_complete(tmp_path: Path, kind: str) -> None:
    chosen = random.Random(kind)
    for path, subtype in written(tmp_path, kind):
        whole = outcome(path)
        if kind not in containers.CHECKED:
            assert str(whole).endswith("Convert it to WAV or FLAC.")
            continue
        assert audio.length(path) == len(whole)
        content = path.read_bytes()
        cut = tmp_path / f"cut.{kind.lower()}"
        for size in [len(content) - 2, *(chosen.randrange(len(content)) for _ in range(12))]:
            cut.write_bytes(content[:size])
            found = outcome(cut)
            if isinstance(found, str):
                assert found.startswith(f"{cut}: ")
                assert "\n" not in found
            else:
                np.testing.assert_array_equal(found, whole, f"{subtype}, {size} of {len(content)} bytes")


def test_every_common_format_is_read(tmp_path: Path) -> None:
    for kind in containers.CHECKED:
        files = written(tmp_path, kind)
        assert files
        for path, _ in files:
            seconds = 24000 / soundfile.info(path).samplerate
            found = audio.read(path)
            assert audio.length(path) == len(found)
            assert 0 <= len(found) - round(16000 * seconds) < 700  # ADPCM and GSM fill their last block


def without_first_frame(path: Path) -> Path:
    """An MP3 without its Xing header: LAME puts it into a frame of its own."""
    content = path.read_bytes()
    assert b"Info" in content[:200] or b"Xing" in content[:200]
    start, sync = content.index(b"\xff"), content[content.index(b"\xff") :][:2]
    path.write_bytes(content[content.index(sync, start + 4) :])
    return path


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("tagged", [False, True])
def test_an_mp3_without_xing_header_is_read_to_its_end(
    tmp_path: Path, mode: str, rate: int, tagged: bool
) -> None:
    path, seconds = tmp_path / "a.mp3", 3
    wave = np.concatenate([tone(1.5, rate), np.random.default_rng(1).normal(0, 0.2, round(1.5 * rate))])
    soundfile.write(path, wave, rate, format="MP3", bitrate_mode=mode)
    known = audio.read(path)
    assert len(known) == seconds * 16000
    without_first_frame(path)
    if tagged:
        path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    found = audio.read(path)
    assert audio.length(path) == len(found)
    frame = 1152 if rate > 24000 else 576
    frames = len(found) * rate / 16000 / frame
    assert abs(frames - round(frames)) < 0.01  # whole frames: the coder's delay is in them
    assert 0 <= len(found) - len(known) < 4 * frame * 16000 / rate
    delay = len(found) - len(known)
    best = min(np.abs(found[k : k + 20000] - known[:20000]).mean() for k in range(delay + 1))
    assert best < 0.01


def test_an_mp3_with_xing_header_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, NOISE, 16000, format="MP3")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="the header promises 24000 samples, decoding ends after"):
        audio.read(path)


def set_total_samples(path: Path, count: int) -> Path:
    """A FLAC's STREAMINFO: the 36 bits of the number of samples (0 means unknown)."""
    content = bytearray(path.read_bytes())
    (word,) = struct.unpack(">Q", content[18:26])
    content[18:26] = struct.pack(">Q", word >> 36 << 36 | count)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, NOISE, rate)
    known = audio.read(path)
    set_total_samples(path, 0)
    np.testing.assert_array_equal(audio.read(path), known)
    np.testing.assert_array_equal(audio.read(path, start=3000, frames=4000), known[3000:7000])
    assert audio.length(path) == len(known)


@pytest.mark.parametrize("call", [audio.read, audio.length])
def test_a_promise_takes_no_memory(tmp_path: Path, call: object) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, NOISE, 16000)
    set_total_samples(path, 2**36 - 1)
    tracemalloc.start()
    with pytest.raises(
        InputError, match="the header promises 68719476735 samples, decoding ends after 24000"
    ):
        call(path)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_a_rate_that_no_audio_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    for call in (audio.read, audio.length):
        with pytest.raises(InputError, match=f"the header says {rate} Hz, expected 1000 to 768000 Hz"):
            call(path)


def test_raw_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(32000))
    with pytest.raises(InputError, match=r"a\.raw: raw samples do not say their sample rate and type"):
        audio.read(tmp_path / "a.raw")


@pytest.mark.parametrize("name", ["unknown_length.flac", "vbr_without_xing.mp3", "cbr_without_xing.mp3"])
def test_files_of_unknown_length_have_what_others_decode(name: str) -> None:
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is absent")
    expected = 16000 if name.endswith("flac") else 17280  # ffmpeg's and sox's
    assert len(audio.read(CASES / name)) == audio.length(CASES / name) == expected
