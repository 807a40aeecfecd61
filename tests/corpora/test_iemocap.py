"""IEMOCAP: S3PRL's permutation without its side effect, lists from either source, and bad meta data."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_folders import ids, iemocap_folder, names, refused

from s3prl_vqpool.corpora.iemocap import iemocap

PURPOSE = 'Expected {"labels": {name: index}, "meta_data": [{"path": ..., "label": ...}]}.'
S3PRL_SPLIT = """
import json, sys, torch
from torch.utils.data import random_split
rows, ratio = json.load(open(sys.argv[1]))["meta_data"], float(sys.argv[2])
trainlen = int((1 - ratio) * len(rows))
torch.manual_seed(0)
train, dev = random_split(rows, [trainlen, len(rows) - trainlen])
print(json.dumps([[row["path"] for row in part] for part in (train, dev)]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return iemocap_folder(tmp_path)


@pytest.mark.parametrize(("turns", "ratio"), [(5, 0.2), (31, 0.2), (31, 0.3)])
def test_train_and_dev_are_the_permutation_of_s3prls_own_lines(
    tmp_path: Path, turns: int, ratio: float
) -> None:
    root = iemocap_folder(tmp_path, turns)
    meta = root / "meta_data" / "Session1" / "train_meta_data.json"
    command = [sys.executable, "-c", S3PRL_SPLIT, str(meta), str(ratio)]
    expected = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    splits = iemocap(root, root / "meta_data", "fold1", ratio).splits
    assert [[str(u.path.relative_to(root)) for u in splits[name]] for name in ("train", "dev")] == expected


def test_loading_leaves_every_random_state_alone(root: Path) -> None:
    before = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    iemocap(root)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), pickle.dumps(np.random.get_state()))


def test_labels_and_ids_are_those_of_the_meta_data(root: Path) -> None:
    corpus = iemocap(root)
    assert corpus.classes == (("neu", "hap", "ang", "sad"),)
    assert [(u.id, u.label) for u in corpus.splits["test"]] == [
        ("Ses01F_impro01_F000", (0,)),
        ("Ses01F_impro01_F001", (1,)),
        ("Ses01F_impro01_F002", (2,)),
        ("Ses01F_impro01_F003", (3,)),
    ]


def test_raw_corpus_gives_the_lists_of_the_meta_data(root: Path) -> None:
    from_json = iemocap(root, fold="fold1")
    shutil.rmtree(root / "meta_data")
    assert iemocap(root, fold="fold1") == from_json
    assert ids(iemocap(root, fold="fold4").splits["test"]) == [f"Ses04F_impro01_F{n:03d}" for n in range(4)]


def test_class_order_is_that_of_the_label_indices(root: Path) -> None:
    for file in (root / "meta_data" / "Session1").iterdir():
        content = json.loads(file.read_text())
        content["labels"] = {"sad": 2, "neu": 3, "ang": 0, "hap": 1}
        file.write_text(json.dumps(content))
    corpus = iemocap(root)
    assert corpus.classes == (("ang", "hap", "sad", "neu"),)
    assert [names(corpus, u.label) for u in corpus.splits["test"]] == ["neu", "hap", "ang", "sad"]


def test_unknown_folds_ratios_and_absent_meta_data_are_refused(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^Unknown IEMOCAP fold 'Session1'\. Known: fold1, fold2, fold3, fold4, fold5\.$"
    ):
        iemocap(root, fold="Session1")
    with refused("IEMOCAP: Expected valid_ratio between 0 and 1, but got 1.5."):
        iemocap(root, valid_ratio=1.5)
    with refused(root / "meta" / "Session1" / "train_meta_data.json", f": no such file. {PURPOSE}"):
        iemocap(root, root / "meta")
    with refused(root / "meta_data" / "Session2" / "train_meta_data.json", f": no such file. {PURPOSE}"):
        iemocap(root, fold="fold2")


def test_malformed_meta_data_is_refused(root: Path) -> None:
    folder = root / "meta_data" / "Session1"
    file = folder / "test_meta_data.json"
    content = json.loads(file.read_text())
    file.write_text('{"labels": {},\n "meta')
    with refused(file, f", line 2: malformed JSON (Unterminated string starting at). {PURPOSE}"):
        iemocap(root)
    malformed: tuple = (
        [],
        {"labels": {"neu": 0}},
        {"labels": ["neu"], "meta_data": []},
        content | {"meta_data": [{"path": "x"}]},
    )
    for wrong in malformed:
        file.write_text(json.dumps(wrong))
        with refused(file, f": {PURPOSE}"):
            iemocap(root)
    file.write_text(json.dumps(content | {"labels": {"neu": 1, "hap": 2, "ang": 3, "sad": 4}}))
    with refused(
        file, ": Expected labels numbered 0 .. 3, but got {'neu': 1, 'hap': 2, 'ang': 3, 'sad': 4}."
    ):
        iemocap(root)
    file.write_text(json.dumps(content | {"labels": {"hap": 0, "neu": 1, "ang": 2, "sad": 3}}))
    with refused(folder, ": train_meta_data.json and test_meta_data.json have different labels."):
        iemocap(root)
    content["meta_data"][2]["label"] = "fru"
    file.write_text(json.dumps(content))
    with refused(file, ", meta_data[2]: label 'fru' is not one of: neu, hap, ang, sad."):
        iemocap(root)


def test_missing_audio_is_named_and_counted(root: Path) -> None:
    gone = root / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F001.wav"
    gone.unlink()
    counts = " does not exist (1 of 4 files are missing). Check the corpus folder, or fetch the corpus again."
    with refused(root / "meta_data" / "Session1" / "test_meta_data.json", ", meta_data[1]: ", gone, counts):
        iemocap(root)
