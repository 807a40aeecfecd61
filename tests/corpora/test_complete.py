"""Corpora that are not all there, files that belong to no corpus, and utterances that are in two splits."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_folders import (
    COMMANDS,
    fluent_commands_folder,
    iemocap_folder,
    refused,
    speech_commands_folders,
    voxceleb1_folder,
    wav,
)

from s3prl_vqpool.codes import kmeans_fit
from s3prl_vqpool.corpora import Corpus, Utterance, tasks
from s3prl_vqpool.corpora.checks import require_classes, require_names
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.iemocap import iemocap
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.corpora.voxceleb1 import voxceleb1
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.config import datarc_of, default_datarc

WAY_OUT = (
    " Fetch the corpus again, or allow it: datarc.allow_missing_classes: true, or a list of such classes."
)
AGAIN = " Check the corpus folder, or fetch the corpus again."


def corpus(**splits: list[tuple[int, int]]) -> Corpus:
    """Utterances with labels in two slots, of the classes a, b, c and x, y."""
    made = {
        split: [Utterance(Path(f"{split}{n}.wav"), label, f"{split}{n}") for n, label in enumerate(labels)]
        for split, labels in splits.items()
    }
    return Corpus("hand-made", made, (("a", "b", "c"), ("x", "y")))


ALL = [(0, 0), (1, 1), (2, 0)]


def test_a_corpus_with_every_class_in_every_split_is_require_classes() -> None:
    whole = corpus(train=ALL, dev=ALL, test=ALL)
    require_classes(whole)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([(0, 0), (1, 1)], "c (1 of 3"),
        ([(0, 0), (0, 1)], "b, c (2 of 3"),
        ([(0, 0), (1, 0), (2, 0)], "y (1 of 2"),
    ],
)
def test_a_class_without_utterances_is_refused(split: str, labels: list[tuple[int, int]], said: str) -> None:
    part = corpus(**{**dict.fromkeys(("train", "dev", "test"), ALL), split: labels})
    with refused(f"hand-made: {split} has no utterance of {said} classes).", WAY_OUT):
        require_classes(part)
    require_classes(part, True)
    require_classes(part, ["b", "c", "y"])
    require_classes(part, "True")


def test_the_classes_that_may_be_missing_are_names_of_classes() -> None:
    part = corpus(train=ALL, dev=ALL, test=[(0, 0)])
    with refused("hand-made: test has no utterance of c (1 of 3 classes).", WAY_OUT):
        require_classes(part, ["b", "y"])
    with pytest.raises(InputError, match=r"Unknown class in datarc\.allow_missing_classes: 'd'"):
        require_classes(part, ["d"])
    for wrong in ("b", 3, [3]):
        with pytest.raises(InputError, match="expected true, false or a list of classes, but got"):
            require_classes(part, wrong)


def test_an_utterance_in_two_splits_is_refused_but_windows_of_one_file_are_not() -> None:
    whole = corpus(train=ALL, dev=ALL, test=ALL).splits
    shared = {**whole, "test": [*whole["test"], whole["train"][1]]}
    with refused("train1.wav: is in train and in test of hand-made. Take it out of one of the lists."):
        Corpus("hand-made", shared, (("a", "b", "c"), ("x", "y")))
    windows = {
        split: [replace(u, path=Path("noise.wav"), start=n, frames=1) for n, u in enumerate(utterances)]
        for split, utterances in whole.items()
    }
    Corpus("hand-made", windows, (("a", "b", "c"), ("x", "y")))


def test_speech_commands_without_a_word_is_refused(
    synthetic: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    root, test = (
        Path(shutil.copytree(path, tmp_path / Path(path).name)) for path in synthetic["ks"].values()
    )
    require_classes(speech_commands(root, test))
    shutil.rmtree(root / "stop")
    with refused("speech_commands: train has no utterance of stop (1 of 12 classes).", WAY_OUT):
        require_classes(speech_commands(root, test))
    for folder in test.iterdir():
        if folder.is_dir() and not folder.name.startswith("_"):
            shutil.rmtree(folder)
    named = "speech_commands: test has no utterance of yes, no, up, down, left, ... (9 of 12 classes)."
    with refused(named, WAY_OUT):
        require_classes(speech_commands(root, test), ["stop"])


def test_iemocap_without_a_session_or_its_audio_is_refused(tmp_path: Path) -> None:
    root = iemocap_folder(tmp_path)
    shutil.rmtree(root / "meta_data")
    evaluation = root / "Session4" / "dialog" / "EmoEvaluation" / "Ses04F_impro01.txt"
    audio = root / "Session4" / "sentences" / "wav" / "Ses04F_impro01"
    first = audio / "Ses04F_impro01_F000.wav"
    shutil.rmtree(audio)
    with refused(evaluation, ", line 3: ", first, " does not exist (4 of 20 files are missing).", AGAIN):
        iemocap(root)
    shutil.rmtree(evaluation.parent)
    with refused(root / "Session4", ": has no dialog/EmoEvaluation/*.txt. Fetch the corpus again."):
        iemocap(root)
    shutil.rmtree(root / "Session4")
    shutil.rmtree(root / "Session2")
    with refused(
        root,
        ": lacks Session2, Session4. Expected Session1 .. Session5 with sentences/wav in each;",
        " to use a part of it, list its files in meta_data.",
    ):
        iemocap(root)


def test_any_corpus_that_its_meta_data_lists_is_taken(tmp_path: Path) -> None:
    """As S3PRL's `emotion` does (s3prl#317): own labels, own folders."""
    root, folder = tmp_path / "own", tmp_path / "lists" / "Session1"
    folder.mkdir(parents=True)
    labels = {"calm": 0, "loud": 1}
    for split, count in (("train", 10), ("test", 4)):
        rows = [{"path": f"clips/{split}{n}.wav", "label": ("calm", "loud")[n % 2]} for n in range(count)]
        for row in rows:
            wav(root / row["path"])
        text = json.dumps({"labels": labels, "meta_data": rows})
        (folder / f"{split}_meta_data.json").write_text(text)
    found = iemocap(root, tmp_path / "lists", valid_ratio=0.5)
    assert found.classes == (("calm", "loud"),)
    assert [u.id for u in found.splits["test"]] == ["test0", "test1", "test2", "test3"]
    assert len(found.splits["train"]) == len(found.splits["dev"]) == 5
    (root / "clips" / "test2.wav").unlink()
    with pytest.raises(InputError, match="not IEMOCAP"):
        iemocap(root, tmp_path / "lists")


HIDDEN = ("._x.wav", ".hidden/x.wav", ".ipynb_checkpoints/x.wav", "__MACOSX/x.wav", "__MACOSX/y/x.wav")


def with_hidden_files(root: Path) -> None:
    """Not audio, in every folder of the corpus."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in HIDDEN:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    ks, (sid, meta) = speech_commands_folders(tmp_path), voxceleb1_folder(tmp_path)
    ic, er = fluent_commands_folder(tmp_path, COMMANDS), iemocap_folder(tmp_path)
    shutil.rmtree(er / "meta_data")

    def loaded() -> list[Corpus]:
        return [speech_commands(*ks), voxceleb1(sid, meta), fluent_commands(ic), iemocap(er)]

    before, files = loaded(), kmeans_fit.audio_files(tmp_path)
    with_hidden_files(tmp_path)
    assert loaded() == before
    assert kmeans_fit.audio_files(tmp_path) == files


def test_names_in_capitals_are_audio(tmp_path: Path) -> None:
    root, test = speech_commands_folders(tmp_path)
    iemocap_root = iemocap_folder(tmp_path)
    shutil.rmtree(iemocap_root / "meta_data")
    before = speech_commands(root, test), iemocap(iemocap_root)
    for path in tmp_path.rglob("*.wav"):
        path.rename(path.with_suffix(".WAV"))
    after = speech_commands(root, test), iemocap(iemocap_root)
    for old, new in zip(before, after):
        for split, utterances in old.splits.items():
            expected = [re.sub(r"\.wav\b", ".WAV", u.id) for u in utterances]
            assert [u.id for u in new.splits[split]] == expected


@pytest.mark.parametrize(
    ("name", "separator", "said"),
    [
        ("a b", " ", r"holds ' ', which separates"),
        ("a\tb", " ", r"holds ' ', which separates"),
        (" a", " ", r"holds ' ', which separates"),
        ("a,b", ",", r"holds ',', which separates"),
        ("a\nb", ",", "has a line break"),
        ("a\u2028b", ",", "has a line break"),
        ("a\udcff", " ", "is not UTF-8"),
    ],
)
def test_a_name_that_a_prediction_file_cannot_hold_is_refused(name: str, separator: str, said: str) -> None:
    made = corpus(train=ALL, dev=ALL, test=ALL)
    require_names(made, separator, 1)
    *others, last = made.splits["test"]
    made = replace(made, splits={**made.splits, "test": [*others, replace(last, id=name)]})
    with pytest.raises(InputError, match=rf"^test2\.wav: its name .*{said}"):
        require_names(made, separator, 1)


def test_a_class_may_hold_a_space_where_it_ends_the_line() -> None:
    splits = corpus(train=ALL, dev=ALL, test=ALL).splits
    spaced = Corpus("own", splits, (("a", "very happy", "c"), ("x", "y")))
    require_names(spaced, " ", 1)
    with pytest.raises(InputError, match="own: the class 'very happy' holds ' '"):
        require_names(spaced, " ", 2)


def test_every_task_refuses_names_and_missing_classes(
    synthetic: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """By `Task.load`, which everything goes through."""
    root = Path(shutil.copytree(synthetic["ks"]["speech_commands_root"], tmp_path / "ks"))
    datarc = {**synthetic["ks"], "speech_commands_root": str(root)}
    task = tasks.by_name("ks")
    task.load(datarc)
    shutil.rmtree(root / "stop")
    with pytest.raises(InputError, match=r"no utterance of stop \(1 of 12 classes\)"):
        task.load(datarc)
    allowed = {**datarc, "allow_missing_classes": ["stop"]}
    task.load(allowed)
    first = next(path for path in (root / "yes").iterdir() if path.suffix == ".wav")
    first.rename(first.with_name(f"a {first.name}"))
    with pytest.raises(InputError, match=r"its name holds ' ', which separates"):
        task.load(allowed)


@pytest.mark.parametrize("task", [task.name for task in tasks.registered()])
def test_every_task_knows_the_option(task: str, synthetic: dict[str, dict[str, str]]) -> None:
    downstream = tasks.by_name(task).downstream
    assert default_datarc(downstream)["allow_missing_classes"] is False
    if task in synthetic:
        tasks.by_name(task).load(datarc_of(downstream, {**default_datarc(downstream), **synthetic[task]}))
