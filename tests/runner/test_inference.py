"""`vqpool classify` and `-m inference -t FOLDER` against `-m inference` of one file after the other."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from s3prl_vqpool import cli
from s3prl_vqpool.checkpoints import load

SIZES = {"ks": {"batch_size": 8}, "ic": {"train_batch_size": 8}}
SLOTS = {"ks": ["label"], "ic": ["action", "object", "location"]}


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `trained` keeps its experiments."""
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture
def trained(experiments: Path, run: Any, options: Any, synthetic: dict) -> Callable[[str], Path]:
    """`trained(task)`: a checkpoint after two steps; made once."""

    def trained(task: str) -> Path:
        checkpoint = experiments / task / "states-2.ckpt"
        if not checkpoint.exists():
            datarc = {"num_workers": 0, **synthetic[task], **SIZES[task]}
            given = options(datarc, total_steps=2, eval_step=9, save_step=2, gradient_accumulate_steps=1)
            argv = ["-m", "train", "-p", checkpoint.parent, "-d", f"vqpool_{task}", "-u", "mfcc_vq", *given]
            run(*argv).ok()
        return checkpoint

    return trained


@pytest.fixture
def speech(tmp_path: Path, synthetic: dict) -> Path:
    """A folder with four files of different lengths in two folders, one at 8 kHz."""
    root = Path(synthetic["ic"]["file_path"]) / "wavs"
    folder = tmp_path / "speech"
    for number, path in enumerate(sorted(root.rglob("*.wav"))[:4]):
        samples, rate = soundfile.read(path)
        target = folder / "ab"[number % 2] / f"{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, samples[: len(samples) - 1000 * number], 8000 if number == 3 else rate)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", SLOTS)
def test_labels_are_those_of_inference_one_by_one(
    task: str, trained: Any, run: Any, speech: Path, tmp_path: Path
) -> None:
    checkpoint = trained(task)
    output = tmp_path / "labels.csv"
    argv = ["classify", "-e", str(checkpoint), str(speech), "--output", str(output), "--device", "cpu"]
    before = sorted(os.listdir(checkpoint.parent))
    assert cli.main(argv) == 0
    assert sorted(os.listdir(checkpoint.parent)) == before
    found = rows(output)
    assert [row["id"] for row in found] == ["a/0", "a/2", "b/1", "b/3"]
    separator = "," if task == "ic" else " "
    lines = []
    for row in found:
        said = run("-m", "inference", "-e", checkpoint, "-t", row["path"]).ok().out.splitlines()
        line = separator.join([Path(row["path"]).stem, *(row[slot] for slot in SLOTS[task])])
        assert said[-1] == line
        lines.append(separator.join([row["id"], *(row[slot] for slot in SLOTS[task])]))
    said = run("-m", "inference", "-e", checkpoint, "-t", speech).ok().out.splitlines()
    assert said[-4:] == lines


@pytest.mark.parametrize("task", SLOTS)
def test_probabilities_are_the_softmax_in_descending_order(
    task: str, trained: Any, speech: Path, tmp_path: Path
) -> None:
    """All classes are asked for where there is one slot, and their probabilities sum to 1."""
    checkpoint = trained(task)
    classes = load(checkpoint)["Config"]["downstream_expert"]["classes"]
    top, output = min(map(len, classes)), tmp_path / "labels.csv"
    argv = ["classify", "-e", str(checkpoint), str(speech), "--top", str(top), "--output", str(output)]
    assert cli.main([*argv, "--device", "cpu"]) == 0
    for row in rows(output):
        for slot, names in zip(SLOTS[task], classes):
            about = "probability" if task == "ks" else f"{slot}_probability"
            behind = ["", *(f"_{place}" for place in range(2, top + 1))]
            values = [float(row[about + each]) for each in behind]
            assert values == sorted(values, reverse=True)
            labels = [row[slot + each] for each in behind]
            assert len(set(labels)) == top
            assert set(labels) <= set(names)
            if len(names) == top:
                torch.testing.assert_close(sum(values), 1.0, atol=2e-5, rtol=0)


def test_segments_are_computed_as_files_of_their_own(trained: Any, speech: Path, tmp_path: Path) -> None:
    checkpoint = trained("ks")
    samples, rate = soundfile.read(speech / "a/0.wav", dtype="int16")
    soundfile.write(tmp_path / "cut.wav", samples[4000:12000], rate)
    (tmp_path / "list.csv").write_text("id,path,start,end\n=1,speech/a/0.wav,0.25,0.75\n2,cut.wav,,\n")
    argv = [
        "classify",
        "-e",
        str(checkpoint),
        str(tmp_path / "list.csv"),
        "--output",
        str(tmp_path / "l.csv"),
    ]
    assert cli.main([*argv, "--device", "cpu", "--top", "3"]) == 0
    first, second = rows(tmp_path / "l.csv")
    assert (first.pop("id"), second.pop("id")) == ("'=1", "2")
    assert (Path(first.pop("path")).name, Path(second.pop("path")).name) == ("0.wav", "cut.wav")
    assert first == second


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("speech --output l.txt", "l.txt: name a .csv file in a folder that exists."),
        ("none.wav --output l.csv", "none.wav: no such file or folder."),
        ("speech --output l.csv --top 0", "--top 0: expected 1 to "),
        ("speech --output l.csv --top 999", "--top 999: expected 1 to "),
        ("speech bad.wav --output l.csv", "bad.wav: not audio that libsndfile can read"),
        ("speech --output l.csv -e none.ckpt", "-e none.ckpt: no such file"),
        ("speech --output l.csv -e bad.wav", "bad.wav: "),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    options: str,
    problem: str,
    trained: Any,
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = trained("ks")
    monkeypatch.chdir(speech.parent)
    Path("bad.wav").write_text("text")
    capsys.readouterr()
    before = sorted(os.listdir())
    assert cli.main(["classify", "-e", str(checkpoint), *options.split(), "--device", "cpu"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {problem}")
    assert sorted(os.listdir()) == before
