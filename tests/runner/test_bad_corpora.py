"""Mistakes with corpora and audio: one line on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mistakes import START

ROOTS = {"ks": "speech_commands_root", "sid": "file_path", "ic": "file_path", "er": "root"}


ANOTHER = {"ks": "sid", "sid": "ic", "ic": "er", "er": "ks"}


@pytest.mark.parametrize("task", ROOTS)
def test_corpus_folders(task: str, refused: Any, options: Any, synthetic: dict, tmp_path: Path) -> None:
    def error(root: Path | str, key: str = ROOTS[task]) -> str:
        given = options({**synthetic[task], key: root})
        return refused("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", f"vqpool_{task}", *given)

    assert error(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'}: no such folder. Expected ")
    (tmp_path / "empty").mkdir()
    assert error(tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: the folder is empty. Expected ")
    other = synthetic[ANOTHER[task]][ROOTS[ANOTHER[task]]]
    message = error(other)
    assert message.startswith(f"{other}: not ")
    assert f"{ROOTS[ANOTHER[task]]} (vqpool_{ANOTHER[task]})." in message
    if task == "ks":
        root = synthetic["ks"]["speech_commands_root"]
        message = error(root, "speech_commands_test_root")
        assert message.startswith(f"{root}: not the Speech Commands test set.")
    if task == "sid":
        assert error(tmp_path / "nowhere.txt", "meta_data").startswith(
            f"{tmp_path / 'nowhere.txt'}: no such file."
        )


def test_lists_that_name_a_missing_file(refused: Any, options: Any, synthetic: dict, tmp_path: Path) -> None:
    def error(task: str, **datarc: object) -> str:
        given = options({**synthetic[task], **datarc})
        return refused("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", f"vqpool_{task}", *given)

    listing = Path(shutil.copy(synthetic["sid"]["meta_data"], tmp_path / "list.txt"))
    count = len(listing.read_text().splitlines())
    with open(listing, "a") as file:
        file.write("1 id10001/gone/00001.wav\n2 id10001/gone/00002.wav\n")
    message = error("sid", meta_data=listing)
    assert message.startswith(f"{listing}, line {count + 1}: ")
    assert f"id10001/gone/00001.wav does not exist (2 of {count + 2} files are missing)." in message

    root = linked(synthetic["ic"]["file_path"], tmp_path / "ic")
    gone = next(iter(sorted(root.glob("wavs/speakers/*/*.wav"))))
    gone.unlink()
    message = error("ic", file_path=root)
    assert message.split(", line ")[0].endswith("_data.csv")
    assert f"{gone} does not exist (1 of " in message

    root = linked(synthetic["er"]["root"], tmp_path / "er")
    table = root / "meta_data" / "Session1" / "train_meta_data.json"
    gone = root / json.loads(table.read_text())["meta_data"][3]["path"]
    gone.unlink()
    message = error("er", root=root, meta_data=root / "meta_data")
    assert message.startswith(f"{table}, meta_data[3]: {gone} does not exist (1 of ")


def linked(corpus: str | Path, out: Path) -> Path:
    """A copy of a corpus whose files are links to the original."""
    return Path(shutil.copytree(corpus, out, copy_function=os.symlink))


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def text(path: Path) -> None:
    path.write_text("this is text")


def truncated(path: Path) -> None:
    whole = path.resolve().read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), 16000)


def with_nan(path: Path) -> None:
    soundfile.write(path, np.where(np.arange(8000) == 4000, np.nan, 0.1).astype(np.float32), 16000, "FLOAT")


def less_than_a_frame(path: Path) -> None:
    soundfile.write(path, np.full(300, 0.1, np.float32), 16000)


BROKEN = {
    text: "not audio that libsndfile can read",
    truncated: "truncated or damaged (the header promises ",
    no_samples: "zero samples. Fetch the file again, or take it out of the list.",
    with_nan: "the audio holds NaN or infinite samples. Convert the file again from its source.",
    less_than_a_frame: "300 samples at 16 kHz are less than one frame of 25 ms (400).",
}


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
@pytest.mark.parametrize(("workers", "preloaded"), [(0, False), (2, False), (0, True)])
def test_audio_in_training(
    breaking: Callable, workers: int, preloaded: bool, refused: Any, er: Any, synthetic: dict, tmp_path: Path
) -> None:
    """One file of the training list; where a DataLoader worker reads it, its error comes through as one line."""
    root = linked(synthetic["er"]["root"], tmp_path / "corpus")
    path = sorted(root.glob("Session3/sentences/wav/*/*.wav"))[5]
    if breaking is not truncated:
        path.unlink()
    breaking(path)
    given = er(
        root=root,
        meta_data=root / "meta_data",
        num_workers=workers,
        pre_load=preloaded,
        valid_ratio=0.01,
        allow_missing_classes=True,
    )
    assert refused(*START, *given).startswith(f"{path}: {BROKEN[breaking]}")


def test_audio_that_is_converted_trains(run: Any, er: Any, synthetic: dict, tmp_path: Path) -> None:
    """Two channels, 8 kHz, 48 kHz, FLAC under a wav's name."""
    root = linked(synthetic["er"]["root"], tmp_path / "corpus")
    paths = sorted(root.glob("Session3/sentences/wav/*/*.wav"))[:4]
    for path, (rate, channels, kind) in zip(
        paths, [(16000, 2, "WAV"), (8000, 1, "WAV"), (48000, 1, "WAV"), (44100, 2, "FLAC")]
    ):
        wav = np.repeat(samples(path)[: rate // 2, None], channels, axis=1)
        path.unlink()
        soundfile.write(path, wav, rate, format=kind)
    given = er(root=root, meta_data=root / "meta_data", valid_ratio=0.01, allow_missing_classes=True)
    run(*START, *given).ok()


def test_one_bad_file_for_inference(run: Any, er: Any, tmp_path: Path) -> None:
    run(*START, *er("config.runner.total_steps=1,,config.runner.save_step=1")).ok()
    checkpoint = tmp_path / "cwd" / "result" / "downstream" / "a" / "states-1.ckpt"
    for breaking in (text, no_samples, with_nan, less_than_a_frame):
        path = tmp_path / "one.wav"
        breaking(path)
        error = run("-m", "inference", "-e", checkpoint, "-t", path).error
        assert error.startswith(f"{path}: {BROKEN[breaking]}")
    (tmp_path / "empty").mkdir()
    error = run("-m", "inference", "-e", checkpoint, "-t", tmp_path / "empty").error
    assert error.startswith(f"{tmp_path / 'empty'}: holds no audio")
    error = run("-m", "evaluate", "-e", checkpoint, "-t", "tset").error
    assert error == "Unknown split 'tset'. Did you mean test? Known: train, dev, test."
    error = run("-m", "evaluate", "-e", checkpoint, "-u", "mfcc").error
    assert error == f"-u mfcc: {checkpoint} was trained with -u mfcc_vq; leave -u out, or use another -n."
