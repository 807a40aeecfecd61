"""Audio that a command names: which pieces, in which order, by which ids; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_vqpool.corpora.table.clips import clips, lengths
from s3prl_vqpool.errors import InputError


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of different noise in two folders; the working directory."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("speech/b/one.wav", "speech/a/two.wav", "speech/a.flac"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, 0.1 * generator.standard_normal(16000), 16000)
    Path("speech/b/._one.wav").write_bytes(b"macOS")
    Path("speech/notes.md").write_text("no audio")
    return tmp_path


def named(*given: str) -> list[tuple[str, str]]:
    return [(each.id, str(each.path)) for each in clips([Path(one) for one in given])]


def test_folder_is_searched_in_the_order_of_its_paths(speech: Path) -> None:
    assert named("speech") == [
        ("a/two", "speech/a/two.wav"),
        ("a", "speech/a.flac"),
        ("b/one", "speech/b/one.wav"),
    ]


def test_files_are_called_by_their_names_in_the_order_given(speech: Path) -> None:
    given = ("speech/b/one.wav", "speech/a.flac")
    assert named(*given) == list(zip(("one", "a"), given))
    Path("speech/a.flac").rename("here.flac")
    assert named("here.flac") == [("here", "here.flac")]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("list.txt", "x speech/b/one.wav\n\ny\tspeech/a.flac\n"),
        ("wav.scp", "x speech/b/one.wav\ny speech/a.flac\n"),
        ("list.csv", "id,path,label\nx,speech/b/one.wav,yes\ny,speech/a.flac,no\n"),
        ("list.jsonl", '{"id": "x", "path": "speech/b/one.wav"}\n{"id": "y", "path": "speech/a.flac"}\n'),
    ],
)
def test_lists_give_ids(file: str, text: str, speech: Path) -> None:
    Path(file).write_text(text)
    assert named(file) == [("x", "speech/b/one.wav"), ("y", "speech/a.flac")]


def test_list_of_paths_takes_names_with_spaces(speech: Path) -> None:
    Path("speech/a.flac").rename("speech/a b.flac")
    Path("list.txt").write_text("speech/a b.flac\nspeech/b/one.wav\n")
    assert named("list.txt") == [("speech/a b", "speech/a b.flac"), ("speech/b/one", "speech/b/one.wav")]


def test_kaldi_directory_gives_its_segments(speech: Path) -> None:
    Path("data").mkdir()
    Path("data/wav.scp").write_text(f"r {speech}/speech/b/one.wav\nq {speech}/speech/a.flac\n")
    Path("data/segments").write_text("r-2 r 0.5 0.8\nr-1 r 0 0.25\n")
    found = clips([Path("data")])
    samples, _ = soundfile.read("speech/b/one.wav", dtype="float32")
    assert [each.id for each in found] == ["r-2", "r-1"]
    assert lengths(found) == [4800, 4000]
    np.testing.assert_array_equal(found[0].read(), samples[8000:12800])
    np.testing.assert_array_equal(found[1].read(), samples[:4000])


@pytest.mark.parametrize(
    ("files", "given", "problem"),
    [
        ({}, "none.wav", "none.wav: no such file or folder."),
        ({}, "empty", "empty: holds no audio (.wav .flac .ogg .mp3) and no wav.scp."),
        ({"l.txt": ""}, "l.txt", "l.txt: names no audio."),
        ({"l.txt": "speech/a.flac\nx.wav\ny.wav"}, "l.txt",
         "l.txt, line 2, path: x.wav does not exist (2 of 3 files are missing). Check the list"),
        ({"l.txt": "speech/a.flac\nsox x.mp3 - |"}, "l.txt", "l.txt, line 2: is a pipe, and no command"),
        ({"l.txt": "u speech/a.flac\nu speech/b/one.wav"}, "l.txt",
         "l.txt, line 2: the id 'u' is that of line 1 too."),
        ({"l.csv": "file\nspeech/a.flac"}, "l.csv", "l.csv: no column 'path'. It has: file."),
        ({"l.csv": "path,start,end\nspeech/a.flac,0.5,0.2"}, "l.csv", "l.csv, line 2: end 0.2 is not after"),
        ({"l.csv": "path,start,end\nspeech/a.flac,0.5,9"}, "l.csv", "l.csv, line 2: ends at 9 s, but"),
        ({}, "speech/a.flac speech/a.flac", "speech/a.flac: the id 'a' is that of speech/a.flac too."),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(files: dict[str, str], given: str, problem: str, speech: Path) -> None:
    Path("empty").mkdir()
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(InputError) as caught:
        clips([Path(one) for one in given.split()])
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_all_counted(speech: Path) -> None:
    for name in ("speech/a/two.wav", "speech/b/one.wav"):
        Path(name).write_text("text")
    with pytest.raises(InputError, match=r"^speech/a/two.wav: not audio .*\(2 of 3 files cannot be used.\)$"):
        lengths(clips([Path("speech")]))
