"""A user's own tables, Kaldi directories and folders: what is read is what was written by hand."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from corpus_folders import refused, tone, wav
from tables import BY_HAND, HEADER, ROWS, audio, datarc_for, labels, load, text, write

from s3prl_vqpool.corpora import UtteranceDataset
from s3prl_vqpool.corpora.tasks import by_name
from s3prl_vqpool.errors import InputError


def json_lines(rows: Any = ROWS) -> str:
    return "".join(json.dumps(dict(zip(HEADER[:3], row))) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.csv", text()),
        ("own.csv", "\ufeff" + text().replace("\n", "\r\n")),
        ("own.csv", text().replace("yes", '"yes"').replace(",", ", ").replace("no", "no ") + "\n\n"),
        ("own.csv", text().rstrip("\n")),
        ("own.tsv", text(separator="\t")),
        ("own.jsonl", json_lines()),
        ("OWN.CSV", text().replace("dev", "Validation")),
    ],
    ids=[
        "csv",
        "BOM and CRLF",
        "quotes, spaces, blank lines",
        "no last line end",
        "tsv",
        "jsonl",
        "other names",
    ],
)
def test_table_is_read_as_it_says(name: str, content: str, tmp_path: Path) -> None:
    corpus = load(write(audio(tmp_path), content, name))
    assert labels(corpus) == BY_HAND
    assert corpus.classes == (("no", "yes"),)
    assert [u.path for u in corpus.splits["dev"]] == [tmp_path / "b/1.wav", tmp_path / "b/2.wav"]
    assert {u.weight for u in corpus.splits["train"]} == {1.0}


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = pandas.DataFrame([row[:3] for row in ROWS], columns=HEADER[:3])
    rows["weight"] = [2, 1, 1, 1, 1, 1]
    rows["embedded"] = [b"RIFF"] * 6
    rows["split"] = rows["split"].astype("category")
    rows.to_parquet(audio(tmp_path) / "own.parquet")
    corpus = load(tmp_path / "own.parquet")
    assert labels(corpus) == BY_HAND
    assert [u.weight for u in corpus.splits["train"]] == [2.0, 1.0]


def test_only_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("pyarrow", "pandas"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name, content in (("own.csv", text()), ("own.jsonl", json_lines())):
        assert labels(load(write(audio(tmp_path), content, name))) == BY_HAND
    path = write(tmp_path, "", "own.parquet")
    with refused(
        path, ": reading Parquet needs pyarrow: pip install s3prl-vqpool[table], or convert the table to CSV."
    ):
        load(path)


def test_columns_may_have_other_names_and_a_label_several(tmp_path: Path) -> None:
    content = text().replace("path,label,split", "file,action,part").replace(",yes", ",yes,kitchen")
    content = content.replace("action", "action,place").replace(",no", ",no,none")
    table = write(audio(tmp_path / "elsewhere").parent, content)
    named = {"path": "file", "label": ["action", "place"], "split": "part"}
    corpus = load(table, columns=named, root=str(tmp_path / "elsewhere"))
    assert labels(corpus)["dev"] == {"b/1": ("yes", "kitchen"), "b/2": ("no", "none")}
    assert corpus.classes == (("no", "yes"), ("kitchen", "none"))
    assert corpus.slots == ("action", "place")
    with refused(
        table, ": no column 'emotion'. It has: file, action, place, part. Give the name of its label column: ",
        "datarc.columns.label.",
    ):  # fmt: skip
        load(table, columns={**named, "label": "emotion"})
    with pytest.raises(InputError, match=r"^Unknown column in datarc.columns: 'labl'. Did you mean label\?"):
        load(table, columns={"labl": "action"})


def test_ids_and_weights_are_the_tables(tmp_path: Path) -> None:
    rows = [(*row[:3], f"u {k}", k + 0.5) for k, row in enumerate(ROWS)]
    corpus = load(write(audio(tmp_path), text((*HEADER[:3], "id", "weight"), rows)))
    assert [(u.id, u.weight) for u in corpus.splits["test"]] == [("u 4", 4.5), ("u 5", 5.5)]


def test_segments_are_read_in_seconds(tmp_path: Path) -> None:
    """The audio counts its own samples, so that what is read is known."""
    ramp = np.arange(-16000, 16000, dtype=np.int16)
    for name in ("train", "dev", "test"):
        soundfile.write(tmp_path / f"{name}.wav", ramp, 16000)
    rows = [(f"{split}.wav", label, split, *times)
            for split in ("train", "dev", "test")
            for label, times in (("x", ("", "0.5")), ("y", ("0.25", "1.5")), ("z", ("1.5", "")))]  # fmt: skip
    corpus = load(write(tmp_path, text((*HEADER[:3], "start", "end"), rows)))
    assert [u.id for u in corpus.splits["dev"]] == ["dev#-0.5", "dev#0.25-1.5", "dev#1.5-"]
    read = [wav for wav, *_ in UtteranceDataset(corpus.splits["dev"])]
    for got, (first, last) in zip(read, ((0, 8000), (4000, 24000), (24000, 32000))):
        np.testing.assert_array_equal(got * 32768, ramp[first:last])


def test_segment_that_ends_by_rounding_after_its_file_is_cut(tmp_path: Path) -> None:
    audio(tmp_path, 0.2499)
    rows = [(*row[:3], "0.1", "0.25") for row in ROWS]
    corpus = load(write(tmp_path, text((*HEADER[:3], "start", "end"), rows)))
    assert {(u.start, u.frames) for u in corpus.splits["train"]} == {(1600, 2398)}


def kaldi(folder: Path, utterances: str, **files: str) -> Path:
    """A data directory: wav.scp with two recordings of a second, segments, and files by name."""
    for name in ("r1", "r2"):
        wav(folder / "audio" / f"{name}.wav", tone(1))
    (folder / "wav.scp").write_text("r1 audio/r1.wav\nr2\taudio/r2.wav\n")
    (folder / "segments").write_text(utterances)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


SEGMENTS = "u1 r1 0 0.3\nu2 r1 0.3 0.5\nu3 r1 0.5 -1\nu4 r2 0 0.3\nu5 r2 0.3 0.5\nu6 r2 0.5 1.0\n"


def each(*values: str) -> str:
    return "".join(f"u{k} {value}\n" for k, value in enumerate(values, start=1))


def test_kaldi_directory_is_a_table_of_its_files(tmp_path: Path) -> None:
    splits = each("train", "dev", "test", "train", "dev", "test")
    texts = each(*["turn on"] * 3, *["turn off"] * 3)
    corpus = load(kaldi(tmp_path, SEGMENTS, utt2split=splits, text=texts, utt2spk=each(*"ababab")))
    assert labels(corpus)["test"] == {"u3": ("turn on",), "u6": ("turn off",)}
    assert [(u.start, u.frames) for u in corpus.splits["test"]] == [(8000, 8000), (8000, 8000)]
    assert corpus.splits["test"][1].path == tmp_path / "audio" / "r2.wav"
    (tmp_path / "utt2label").write_text(each(*"xxxyyy"))
    assert load(tmp_path).classes == (("x", "y"),)
    assert load(tmp_path, columns={"label": "text"}).classes == (("turn off", "turn on"),)


def test_kaldi_directories_may_be_one_per_split(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        names = (f"{split}{number}r1", f"{split}{number}r2")
        lines = "".join(f"{name} {wav(tmp_path / 'wavs' / f'{name}.wav')}\n" for name in names)
        (tmp_path / split).mkdir()
        (tmp_path / split / "wav.scp").write_text(lines)
        (tmp_path / split / "utt2label").write_text(f"{names[0]} x\n{names[1]} y\n")
    assert labels(load(tmp_path)) == {
        "train": {"train0r1": ("x",), "train0r2": ("y",)},
        "dev": {"valid1r1": ("x",), "valid1r2": ("y",)},
        "test": {"test2r1": ("x",), "test2r2": ("y",)},
    }


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wav.scp", "r1 sox x.mp3 -t wav - |\n", "line 1: is a pipe, and no command of a list is run. Write its "),
        ("wav.scp", "r1 raw.ark:17\n", "line 1: is in an archive. Write it to an audio file, and list that."),
        ("wav.scp", "r1 a.wav\nr1 b.wav\n", "line 2: 'r1' is in line 1 already. Take one out."),
        ("segments", "u1 r1 0\n", "line 1: Expected 'UTTERANCE RECORDING START END'. Complete the line."),
        ("segments", "u1 r9 0 1\n", "line 1: 'r9' is not in wav.scp. Add it there, or take the line out."),
        ("segments", "u1 r1 0.5 0.2\n", "line 1: end 0.2 is not after start 0.5. Correct the row."),
        ("utt2label", "u9 x\n", "line 1: 'u9' is no utterance of this directory. Kaldi's utils/fix_data_dir.sh "),
    ],
)  # fmt: skip
def test_mistakes_in_a_kaldi_directory_name_file_and_line(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    kaldi(tmp_path, SEGMENTS, utt2label=each(*"xxxyyy"), utt2split=each(*["train", "dev", "test"] * 2))
    if file == "segments":
        for name in ("utt2label", "utt2split"):
            (tmp_path / name).write_text("u1 train\n")
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{tmp_path / file}, {message}')}"):
        load(tmp_path)


def test_kaldi_utterance_without_a_label_is_named(tmp_path: Path) -> None:
    kaldi(tmp_path, SEGMENTS, utt2label="u1 x\n", utt2split=each(*["train", "dev", "test"] * 2))
    with refused(tmp_path / "segments", ", line 2: no label. Fill the cell, or take the row out."):
        load(tmp_path)


def test_folders_are_labels_below_splits(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        wav(tmp_path / split / "yes" / f"{split}.wav")
        wav(tmp_path / split / "no" / "deeper" / f"{split}.flac")
        wav(tmp_path / split / "no" / ".hidden.wav")
    assert labels(load(tmp_path))["dev"] == {
        "validation/yes/validation": ("yes",),
        "validation/no/deeper/validation": ("no",),
    }
    wav(tmp_path / "train" / "stray.wav")
    with refused(
        f"{tmp_path}/train/stray.wav: lies in no folder of its label. Expected {tmp_path}/SPLIT/LABEL/stray.wav."
    ):
        load(tmp_path)


def test_a_gain_and_several_folds_by_columns(tmp_path: Path) -> None:
    splits = [
        ("train", "test"),
        ("train", "test"),
        ("dev", "dev"),
        ("dev", "dev"),
        ("test", "train"),
        ("test", ""),
    ]
    rows = [(*row[:2], *names) for row, names in zip(ROWS, splits)]
    table = write(audio(tmp_path), text(("path", "label", "A", "B"), rows))
    datarc = datarc_for(table, columns={"split": ["A", "B"]}, gain_db=-3, allow_missing_classes=True)
    found = dict(by_name("table").divisions(datarc))
    assert list(found) == ["A", "B"]
    assert labels(found["A"]) == BY_HAND
    assert list(labels(found["B"])["train"]) == ["c/1"]
    assert {corpus.gain_db for corpus in found.values()} == {-3.0}
    assert by_name("table").fold(datarc, "B") == "B"
