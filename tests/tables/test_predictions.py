"""The file of predictions: read back as written, also with hostile names; a damaged one is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from fakes import fake, fold
from hypothesis import given
from hypothesis import strategies as st

from s3prl_vqpool import corpora
from s3prl_vqpool.corpora import Corpus
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.tables import stores, table1
from s3prl_vqpool.tables.predictions import COLUMNS, read, rows, write
from s3prl_vqpool.tables.stores import StoredTask

HOSTILE = ["<script>alert(1)</script>", "_%&$#{}~^\\", "=cmd()", "'=1", "+1", "-1", "@x", 'a,"b"', "NA", ""]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> StoredTask:
    """Three classes, a, b and c; test is rows 24 to 35."""
    store, corpus = fake("sid")
    monkeypatch.setattr(stores, "divisions", lambda manifest: [("", corpus)])
    return stores.tasks({Path("sid"): store})[0]  # type: ignore[dict-item]


def frame(*names: str) -> pd.DataFrame:
    """Two runs of one utterance per name, whose label it is; the second run is wrong but for the last."""
    found = []
    for pooling, predicted in (("AP", names), ("VQ-LP", names[-1:] * len(names))):
        cells = {"source": "s", "task": "KS", "pooling": pooling, "layer": "mean", "fold": "", "seed": ""}
        found += [
            {**cells, "utterance": f"{name}/{number}.wav", "speaker": name, "slots": "", "label": name}
            | {"predicted": other, "right": name == other}
            for number, (name, other) in enumerate(zip(names, predicted))
        ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def test_rows_are_the_test_split_with_names_and_speakers(known: StoredTask) -> None:
    test = known.folds[0].test
    (first, *rest), found = test.tolist(), (known.labels[test] + 1) % 3
    found[-1] = known.labels[test[-1]]
    made = rows(known, known.folds[0], "AP", found, seed=7)
    assert made["utterance"].tolist() == [str(known.store.utterances[row].path) for row in [first, *rest]]
    assert made["label"].tolist() == ["abc"[row % 3] for row in range(12)]
    assert made["predicted"].tolist() == [*("abc"[(row + 1) % 3] for row in range(11)), "c"]
    assert made["right"].tolist() == [False] * 11 + [True]
    assert set(made["seed"]) == {"7"}
    assert set(made["source"]) == {"fake_vq"}
    assert len(rows(known, known.folds[0], "AP", found[:5])) == 5


def test_rows_of_slots_join_names(known: StoredTask) -> None:
    object.__setattr__(known, "names", (("on", "off"), ("lamp", "radio", "tv")))
    object.__setattr__(known, "slots", ("action", "object"))
    labels = torch.tensor([[0, 2], [1, 0]]).repeat(18, 1)
    object.__setattr__(known, "labels", labels)
    made = rows(known, fold([0], [1], [2, 3]), "AP", torch.tensor([[0, 2], [1, 1]]))
    assert made["label"].tolist() == ["on | tv", "off | lamp"]
    assert made["predicted"].tolist() == ["on | tv", "off | radio"]
    assert made["right"].tolist() == [True, False]
    assert set(made["slots"]) == {"action | object"}
    object.__setattr__(known, "names", (("on | x", "off"), ("lamp", "radio", "tv")))
    with pytest.raises(InputError, match=r"sid: the class 'on \| x' holds ' \| '"):
        rows(known, fold([0], [1], [2, 3]), "AP", labels[:2])


def test_an_excerpt_is_named_by_its_start(known: StoredTask) -> None:
    stored = known.store.utterances[30]
    known.store.utterances[30] = replace(stored, start=16000, frames=16000)
    made = rows(known, fold([0], [1], [29, 30]), "AP", known.labels[[29, 30]])
    assert made["utterance"].tolist() == [str(known.store.utterances[29].path), f"{stored.path}#16000"]


def test_speakers_come_from_the_corpus(synthetic: dict) -> None:
    """Of every task: those that the file names or lists of the corpus tell."""
    for name, told in (("ks", True), ("ic", True), ("er", True), ("sid", False)):
        corpus = corpora.tasks.by_name(name).load(synthetic[name])
        words = [u for u in corpus.splits["test"] if "_silence_" not in str(u.path)]
        assert {bool(utterance.speaker) for utterance in words} == {told}


@given(names=st.lists(TEXT, min_size=1, max_size=5, unique=True))
def test_read_is_what_was_written(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path, made = tmp_path_factory.mktemp("p") / "x.predictions.csv", frame(*names, *HOSTILE)
    write(path, made.drop_duplicates(ignore_index=True))
    assert read(path).to_dict("list") == made.drop_duplicates(ignore_index=True).to_dict("list")
    before = path.read_bytes()
    write(path, read(path))
    assert path.read_bytes() == before


def test_no_cell_of_the_file_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", frame(*HOSTILE))
    cells = pd.read_csv(tmp_path / "x.csv", dtype=str, keep_default_na=False)
    assert not cells.map(lambda cell: cell.startswith(tuple("=+-@"))).any(axis=None)
    assert {"'=cmd()", "''=1", "NA", ""} <= set(cells["label"])


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"source"', '"sauce"', "damaged: expected the columns source, task"),
        ('"b","b",1\n', '"b","b",0\n', "row 2: right is not so"),
        ('"b","b",1\n', '"b","a",1\n', "row 2: right is not so"),
        ('"b","b",1\n', '"b","b"\n', "row 2: right is not so"),
        ('"b/1.wav"', '"a/0.wav"', "an utterance comes twice"),
        ('","b",1\n', '","b', "not a file of predictions"),
    ],
)
def test_damaged_files_are_one_line(old: str, new: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "x.predictions.csv"
    write(path, frame("a", "b"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read(path)
    assert named in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_lacks_rows_or_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.predictions.csv"
    with pytest.raises(InputError, match="no such file of predictions: vqpool benchmark writes one"):
        read(path)
    write(path, frame("a", "b"))
    lines = path.read_text().splitlines(keepends=True)
    for kept, named in (
        (lines[:-1], "runs of KS have not as many utterances"),
        (lines[:1], "it has no rows"),
    ):
        path.write_text("".join(kept))
        with pytest.raises(InputError, match=named):
            read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a file of predictions"):
        read(path)


def test_the_table_is_the_mean_of_its_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    store, corpus = fake("er")
    store._frames[30:] = [torch.eye(3)[[0]].expand(len(x), -1) for x in store._frames[30:]]
    swapped = Corpus(
        "er", {**corpus.splits, "train": corpus.splits["dev"], "dev": corpus.splits["train"]}, corpus.classes
    )
    monkeypatch.setattr(stores, "divisions", lambda manifest: [("fold1", corpus), ("fold2", swapped)])
    tasks = stores.tasks({Path("er"): store})  # type: ignore[dict-item]
    table = table1.make(tasks, ["AP", "VQ-LP"], {}, False, False, lambda _: None)
    means = table.predictions.groupby(["pooling", "fold"])["right"].mean().groupby("pooling").mean()
    for row in table.rows:
        assert row.accuracy["ER"] == pytest.approx(100 * means[row.pooling])
        assert 0 < means[row.pooling] < 1
    assert len(table.predictions) == 2 * 2 * 12
