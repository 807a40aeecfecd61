"""Fluent Speech Commands: slots and single intents by first appearance, and one line for each bad table."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_folders import COMMANDS, fluent_commands_folder, names, refused

from s3prl_vqpool.corpora.fluent_commands import fluent_commands

COLUMNS = "a CSV with the columns path, action, object, location"


def labels(root: Path, kind: str) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    splits = fluent_commands(root, kind).splits
    return {split: [(u.id, u.label) for u in utterances] for split, utterances in splits.items()}


def test_slots_are_numbered_by_first_appearance_in_train(tmp_path: Path) -> None:
    root = fluent_commands_folder(tmp_path)
    corpus = fluent_commands(root)
    assert corpus.classes == (("activate", "increase"), ("lights", "volume", "music"), ("kitchen", "none"))
    assert labels(root, "slots") == {
        "train": [("a1", (0, 0, 0)), ("a2", (1, 1, 1)), ("a3", (0, 2, 1))],
        "dev": [("b1", (1, 2, 0))],
        "test": [("c1", (0, 0, 1)), ("c2", (0, 2, 1))],
    }
    assert names(corpus, (1, 2, 0)) == "increase,music,kitchen"


def test_single_intents_append_the_combinations_that_train_lacks(tmp_path: Path) -> None:
    root = fluent_commands_folder(tmp_path)
    corpus = fluent_commands(root, "intents31")
    assert corpus.classes == (
        (
            "activate|lights|kitchen",
            "increase|volume|none",
            "activate|music|none",
            "increase|music|kitchen",
            "activate|lights|none",
        ),
    )
    assert labels(root, "intents31") == {
        "train": [("a1", (0,)), ("a2", (1,)), ("a3", (2,))],
        "dev": [("b1", (3,))],
        "test": [("c1", (4,)), ("c2", (2,))],
    }
    assert names(corpus, (3,)) == "increase|music|kitchen"


@pytest.mark.parametrize("kind", ["slots", "intents31"])
def test_a_value_unknown_to_train_is_named(tmp_path: Path, kind: str) -> None:
    root = fluent_commands_folder(tmp_path, COMMANDS | {"test": [("c1", "activate", "lamp", "none")]})
    table = root / "data" / "test_data.csv"
    with refused(
        table, ", line 2: object 'lamp' is not in train_data.csv. Expected one of: lights, volume, music."
    ):
        fluent_commands(root, kind)


def test_missing_audio_is_named_and_counted(tmp_path: Path) -> None:
    root = fluent_commands_folder(tmp_path)
    gone = root / "wavs" / "speakers" / "s" / "a2.wav"
    gone.unlink()
    counts = " does not exist (1 of 3 files are missing). Check the corpus folder, or fetch the corpus again."
    with refused(root / "data" / "train_data.csv", ", line 3: ", gone, counts):
        fluent_commands(root)


def test_malformed_tables_are_refused(tmp_path: Path) -> None:
    root = fluent_commands_folder(tmp_path)
    table = root / "data" / "valid_data.csv"
    header = ",path,speakerId,transcription,action,object,location\n"
    each = ", line 2: Expected a value in each of path, action, object, location."
    for row in (
        "0,wavs/speakers/s/b1.wav,s,Lights,activate",
        "0,,s,x,activate,lights,none",
        "0,a,s,x,,lights,none",
        "0,a,s,x,activate,lights,none,more",
    ):
        table.write_text(header + row + "\n")
        with refused(table, each):
            fluent_commands(root)
    table.write_text("path,action,object\n")
    with refused(table, f": no column 'location'. Expected {COLUMNS}."):
        fluent_commands(root)
    table.write_text(header + '0,"a.wav" b,s,x,activate,lights,none\n')
    with refused(table, f", after line 1: malformed CSV (',' expected after '\"'). Expected {COLUMNS}."):
        fluent_commands(root)
    table.unlink()
    with refused(table, f": no such file. Expected {COLUMNS}."):
        fluent_commands(root)


def test_unknown_label_set_is_refused(tmp_path: Path) -> None:
    with refused(
        "Unknown Fluent Speech Commands label set 'intent'. Did you mean intents31? Known: slots, intents31."
    ):
        fluent_commands(fluent_commands_folder(tmp_path), "intent")
