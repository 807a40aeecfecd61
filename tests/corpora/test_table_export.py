"""The four corpora written as tables: read again, they have the labels, splits, weights and samples that they had."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_folders import COMMANDS, fluent_commands_folder, tone, wav
from tables import datarc_for, labels

from s3prl_vqpool.corpora import Corpus, UtteranceDataset
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.corpora.synthetic import TASKS
from s3prl_vqpool.corpora.table.export import as_table, reading
from s3prl_vqpool.corpora.tasks import by_name
from s3prl_vqpool.runner.config import datarc_of, default_datarc

Divisions = dict[str, Corpus]


@pytest.fixture(scope="module")
def both(synthetic: dict, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`both(task)`: the corpus by its own loader, and by its table."""
    made: dict[str, tuple[Divisions, Divisions]] = {}

    def both(name: str) -> tuple[Divisions, Divisions]:
        if name not in made:
            task = by_name(name)
            datarc = {**default_datarc(task.downstream), **synthetic[name]}
            theirs = dict(task.divisions(datarc_of(task.downstream, datarc)))
            made[name] = theirs, again(theirs, tmp_path_factory.mktemp(name))
        return made[name]

    return both


def again(divisions: Divisions, folder: Path, **datarc: Any) -> Divisions:
    table = folder / "own.csv"
    table.write_text(as_table(divisions))
    return dict(by_name("table").divisions(datarc_for(table, **reading(divisions), **datarc)))


def without_drawn(corpus: Corpus) -> dict[str, dict[str, tuple]]:
    """Labels, weights and audio by id, but not of random excerpts, which a table does not have, and their windows."""
    drawn = {u.path for u in corpus.splits["train"] if u.start is None and u.frames is not None}
    drawn |= {u.path for u in corpus.splits["train"] if "~" in u.id}
    named = labels(corpus)
    return {
        split: {
            u.id: (named[split][u.id], u.path, u.start, u.frames, u.speaker, pytest.approx(u.weight))
            for u in utterances
            if not (split == "train" and u.path in drawn)
        }
        for split, utterances in corpus.splits.items()
    }


@pytest.mark.parametrize("name", TASKS)
def test_table_of_a_corpus_is_the_corpus(name: str, both: Any) -> None:
    theirs, ours = both(name)
    assert list(ours) == list(theirs)
    for fold, corpus in theirs.items():
        own = ours[fold]
        assert without_drawn(own) == without_drawn(corpus)
        assert [set(names) for names in own.classes] == [set(names) for names in corpus.classes]
        assert (own.gain_db, own.slots, own.drawn) == (corpus.gain_db, corpus.slots, False)


@pytest.mark.parametrize("name", TASKS)
def test_audio_is_read_to_the_sample(name: str, both: Any) -> None:
    for theirs, ours in zip(*(each.values() for each in both(name))):
        by_id = {u.id: u for u in ours.splits["dev"]}
        some = theirs.splits["dev"][::7]
        read = (UtteranceDataset(us, corpus.gain_db) for us, corpus in
                ((some, theirs), ([by_id[u.id] for u in some], ours)))  # fmt: skip
        for (samples, *_), (own, *_) in zip(*read):
            np.testing.assert_array_equal(own, samples)


def test_tables_of_folds_hold_each_file_once(both: Any) -> None:
    theirs, _ = both("er")
    rows = list(csv.DictReader(io.StringIO(as_table(theirs))))
    assert list(rows[0]) == ["path", "label", "fold1", "fold2", "fold3", "fold4", "fold5", "id", "speaker"]
    assert len(rows) == len({row["path"] for row in rows}) == sum(map(len, theirs["fold1"].splits.values()))
    for row in rows:
        assert sorted(row[f"fold{k}"] for k in range(1, 6)).count("test") == 1
        session = int(Path(row["path"]).name[3:5])
        assert row[f"fold{session}"] == "test"


def test_slots_have_their_own_columns(tmp_path: Path) -> None:
    corpus = fluent_commands(fluent_commands_folder(tmp_path))
    rows = list(csv.DictReader(io.StringIO(as_table({"": corpus}))))
    assert [(r["id"], r["action"], r["object"], r["location"]) for r in rows] == [
        row for split in ("train", "valid", "test") for row in COMMANDS[split]
    ]
    assert [r["split"] for r in rows] == ["train"] * 3 + ["dev"] + ["test"] * 2
    assert labels(again({"": corpus}, tmp_path, allow_missing_classes=True)[""]) == labels(corpus)


def test_silence_becomes_windows_that_share_its_weight(tmp_path: Path) -> None:
    """Noise of 2.5 s and 1 s: in train two windows and one, each file with half of the weight of the class."""
    from corpus_folders import speech_commands_folders

    root, test = speech_commands_folders(tmp_path)
    wav(root / "_background_noise_" / "b_pink.wav", tone(2.5))
    corpus = speech_commands(root, test)
    rows = list(csv.DictReader(io.StringIO(as_table({"": corpus}))))
    train = [row for row in rows if row["label"] == "_silence_" and row["split"] == "train"]
    names = [Path(row["path"]).name for row in train]
    assert [(n, row["start"], row["end"]) for n, row in zip(names, train)] == [
        ("a_tap.wav", "0", "1"), ("b_pink.wav", "0", "1"), ("b_pink.wav", "1", "2"),
    ]  # fmt: skip
    (first,), rest = (
        [float(row["weight"]) for n, row in zip(names, train) if n[0] == letter] for letter in "ab"
    )
    assert rest == pytest.approx([first / 2] * 2)
    mass = sum(float(row["weight"]) for row in rows if row["label"] == "yes" and row["split"] == "train")
    assert first + sum(rest) == pytest.approx(mass), "classes are balanced"


def test_times_are_exact_to_the_sample() -> None:
    from s3prl_vqpool.corpora.table.export import _seconds

    for samples in (0, 1, 2, 3, 159, 16000, 16001, 987_654_321):
        assert round(float(_seconds(samples)) * 16000) == samples
