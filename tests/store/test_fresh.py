"""Audio that was deleted or changed after extraction is noticed by whatever uses a store with its corpus."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from stores import SAMPLES, fluent_commands, of_an_earlier_version

from s3prl_vqpool import cli
from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store

NUMBER = 5
"""valid1.wav, the sixth."""


def other_audio(path: Path) -> None:
    """As long as before, and modified at the same time."""
    before = os.stat(path)
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[::-1], rate)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def shorter(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[:-800], rate)


CHANGES = {
    "other": (other_audio, "is not the audio that"),
    "shorter": (shorter, "is not the audio that"),
    "deleted": (Path.unlink, "is gone since"),
}


@pytest.fixture
def extracted(tmp_path: Path, extract: Callable[..., int]) -> tuple[Store, dict[str, Any]]:
    datarc = fluent_commands(tmp_path / "corpus")
    assert extract("mfcc", tmp_path / "store", "--frames", **datarc) == 0
    return Store.open(tmp_path / "store"), datarc


def utterances(store: Store) -> list[Utterance]:
    return [Utterance(row.path, row.label, row.id) for row in store.utterances]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_audio_is_noticed(
    extracted: tuple[Store, dict[str, Any]],
    extract: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    store, datarc = extracted
    path = Path(datarc["file_path"], "wavs", "valid1.wav")
    work, said = CHANGES[change]
    work(path)
    capsys.readouterr()
    with pytest.raises(InputError) as error:
        store.rows(utterances(store))
    assert str(error.value).startswith(f"{path}: {said} {store.folder}")
    assert cli.main(["store", "add-pooling", str(store.folder), "VQ-LP"]) == 2
    assert str(path) in capsys.readouterr().err
    assert extract("mfcc", store.folder, "--frames", **datarc) == 2
    err = capsys.readouterr().err
    assert str(path) in err
    assert err.startswith("error: ")


def test_the_same_audio_with_another_time_or_header_is_fresh(
    extracted: tuple[Store, dict[str, Any]], extract: Callable[..., int], tmp_path: Path
) -> None:
    store, datarc = extracted
    for number, path in enumerate(sorted(Path(datarc["file_path"], "wavs").iterdir())):
        copied = tmp_path / "copied.wav"
        shutil.copyfile(path, copied)
        os.replace(copied, path)
        if number == NUMBER:
            with open(path, "r+b") as file:  # a chunk after the samples
                size = int.from_bytes(file.read(8)[4:], "little")
                file.seek(4)
                file.write((size + 12).to_bytes(4, "little"))
                file.seek(0, os.SEEK_END)
                file.write(b"note" + (4).to_bytes(4, "little") + b"abcd")
    assert store.rows(utterances(store)) == list(range(len(SAMPLES)))
    assert extract("mfcc", store.folder, "--frames", **datarc) == 0


def test_fresh_audio_is_not_read(
    extracted: tuple[Store, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = extracted
    monkeypatch.setattr("s3prl_vqpool.corpora.audio.read", lambda *_: pytest.fail("audio was read"))
    assert store.rows(utterances(store)) == list(range(len(SAMPLES)))


def test_a_store_without_times_still_notices_what_is_gone(
    extracted: tuple[Store, dict[str, Any]],
) -> None:
    """As earlier versions wrote them."""
    store, datarc = extracted
    for index in of_an_earlier_version(store.folder).glob("*.jsonl"):
        lines = index.read_text().splitlines()
        index.write_text("".join(f"{_without_times(line)}\n" for line in lines))
    other_audio(Path(datarc["file_path"], "wavs", "valid1.wav"))
    again = Store.open(store.folder)
    assert {row.modified for row in again.utterances} == {None}
    np.testing.assert_array_equal(again.rows(utterances(store)), range(len(SAMPLES)))
    Path(datarc["file_path"], "wavs", "valid2.wav").unlink()
    with pytest.raises(InputError, match=r"valid2\.wav: is gone since .* \(1 of 12 files are\)"):
        Store.open(store.folder).rows(utterances(store))


def _without_times(line: str) -> str:
    head, found, _ = line.partition(', "bytes": ')
    return f"{head}}}" if found and "sha256" in head and "modified" in line else line
