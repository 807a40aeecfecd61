"""VoxCeleb1: files found in their partitions, any speakers, and one line for each kind of bad list."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_folders import names, refused, voxceleb1_folder, wav

from s3prl_vqpool.corpora.voxceleb1 import voxceleb1

WANTED = "lines like '1 id10001/1zcIwhmdeo4/00001.wav' (1 train, 2 dev, 3 test)"


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, Path]:
    return voxceleb1_folder(tmp_path)


def test_splits_labels_and_ids_are_those_of_the_list(folder: tuple[Path, Path]) -> None:
    root, meta = folder
    corpus = voxceleb1(root, meta)
    assert corpus.classes == (("id10002", "id10007", "id10270"),)
    found = {
        split: [(u.id, u.label, str(u.path.relative_to(root))) for u in utterances]
        for split, utterances in corpus.splits.items()
    }
    assert found == {
        "train": [
            ("id10007-1zcIwhmdeo4-00001", (1,), "dev/wav/id10007/1zcIwhmdeo4/00001.wav"),
            ("id10002-0_laIeN-Q44-00002", (0,), "dev/wav/id10002/0_laIeN-Q44/00002.wav"),
            ("id10270-5r0dWxy17C8-00003", (2,), "test/wav/id10270/5r0dWxy17C8/00003.wav"),
        ],
        "dev": [("id10007-7gWzIy6yIIk-00001", (1,), "dev/wav/id10007/7gWzIy6yIIk/00001.wav")],
        "test": [("id10270-x6uYqmx31kE-00001", (2,), "test/wav/id10270/x6uYqmx31kE/00001.wav")],
    }
    assert names(corpus, (2,)) == "id10270"


def test_another_root_gives_its_own_files(folder: tuple[Path, Path], tmp_path: Path) -> None:
    """S3PRL pickles the first root's list and hands it to every other root."""
    voxceleb1(*folder)
    other, meta = voxceleb1_folder(tmp_path / "other")
    assert all(other in u.path.parents for split in voxceleb1(other, meta).splits.values() for u in split)


def test_a_speaker_that_only_test_has_gets_a_class(folder: tuple[Path, Path]) -> None:
    root, meta = folder
    wav(root / "test" / "wav" / "id11000" / "s" / "1.wav")
    meta.write_text(meta.read_text() + "\n3 id11000/s/1.wav\n")
    assert voxceleb1(root, meta).classes[0][3] == "id11000"


def test_missing_files_are_named_and_counted(folder: tuple[Path, Path]) -> None:
    root, meta = folder
    (root / "dev" / "wav" / "id10007" / "1zcIwhmdeo4" / "00001.wav").unlink()
    (root / "test" / "wav" / "id10270" / "5r0dWxy17C8" / "00003.wav").unlink()
    first = root / "*" / "wav" / "id10007" / "1zcIwhmdeo4" / "00001.wav"
    counts = " does not exist (2 of 5 files are missing). Check the corpus folder, or fetch the corpus again."
    with refused(meta, ", line 2: ", first, counts):
        voxceleb1(root, meta)


@pytest.mark.parametrize(
    "line",
    [
        "4 id10001/a/1.wav",
        "id10001/a/1.wav",
        "1 id10001/1.wav",
        "1 id10001/a/b/1.wav",
        "1 /id10001/1.wav",
        "1,id10001/a/1.wav",
        "1 id10001/a/1.wav x",
    ],
)
def test_malformed_lines_are_named(folder: tuple[Path, Path], line: str) -> None:
    root, meta = folder
    meta.write_text(f"1 id10007/1zcIwhmdeo4/00001.wav\n\n{line}\n")
    with refused(meta, f", line 3: Expected {WANTED}, but got {line!r}."):
        voxceleb1(root, meta)


def test_a_list_that_is_missing_binary_or_without_dev_is_refused(folder: tuple[Path, Path]) -> None:
    root, meta = folder
    with refused(root / "list.txt", f": no such file. Expected {WANTED}."):
        voxceleb1(root, root / "list.txt")
    audio = root / "dev" / "wav" / "id10007" / "1zcIwhmdeo4" / "00001.wav"
    meta.write_bytes(b"1 id10007/\xff\n")
    with refused(meta, f": not UTF-8 text (invalid start byte at byte 10). Expected {WANTED}."):
        voxceleb1(root, meta)
    meta.write_text(f"1 id10007/{audio.parent.name}/{audio.name}\n")
    with refused("voxceleb1: the dev split is empty. Check the corpus folder and its lists."):
        voxceleb1(root, meta)


def test_partition_given_as_root_is_recognised(folder: tuple[Path, Path]) -> None:
    root, meta = folder
    layout = "file_path (vqpool_sid): <dev or test>/wav/<speaker>/<session>/<utterance>.wav."
    wanted = f"Expected VoxCeleb1 for {layout}"
    with refused(root / "dev", f": not VoxCeleb1. {wanted} Did you mean {root}?"):
        voxceleb1(root / "dev", meta)
