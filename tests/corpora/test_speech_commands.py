"""Speech Commands: split, labels, weights and ids of hand-made folders; one line for each wrong folder."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from corpus_folders import (
    all_words_folder,
    bucket,
    ids,
    names,
    refused,
    speakers_of,
    speech_commands_folders,
    tone,
    voxceleb1_folder,
    wav,
)

from s3prl_vqpool.corpora import Corpus, UtteranceDataset
from s3prl_vqpool.corpora.speech_commands import speaker_split, speech_commands

V1 = "Expected Speech Commands v0.01 for speech_commands_root (vqpool_ks): <word>/*.wav and"
V2 = "Expected Speech Commands v0.02 for speech_commands_root (vqpool_ks, classes: all35): 35 <word>/*.wav"
V2_LISTS = " folders, validation_list.txt and testing_list.txt."
TEST = (
    "Expected the Speech Commands test set for speech_commands_test_root (vqpool_ks): <class>/*.wav with"
    " the classes _silence_ and _unknown_ among them."
)
YES, NO, UNKNOWN, SILENCE = 0, 1, 10, 11


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return speech_commands_folders(tmp_path)


def labelled(corpus: Corpus, split: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(utterance.id, utterance.label) for utterance in corpus.splits[split]]


def test_speaker_split_equals_the_published_hash() -> None:
    names = [f"{number:08x}" for number in range(3000)]
    expected = ["dev" if bucket(n) < 10 else None if bucket(n) < 20 else "train" for n in names]
    assert [speaker_split(f"{name}_nohash_{len(name)}.wav") for name in names] == expected
    assert Counter(expected)[None] > 200


def test_splits_labels_and_ids_are_those_of_the_hand_made_folder(folders: tuple[Path, Path]) -> None:
    corpus, train, dev = speech_commands(*folders), speakers_of("train", 3), speakers_of("dev", 2)
    assert corpus.classes[0][YES], corpus.classes[0][UNKNOWN:] == ("yes", ("_unknown_", "_silence_"))
    assert labelled(corpus, "train") == [
        (f"bed-{train[0]}_nohash_4.wav", (UNKNOWN,)),
        *((f"yes-{speaker}_nohash_0.wav", (YES,)) for speaker in sorted(train)),
        ("_background_noise_-a_tap.wav", (SILENCE,)),
        ("_background_noise_-b_pink.wav", (SILENCE,)),
    ]
    assert labelled(corpus, "dev") == [
        (f"cat-{dev[0]}_nohash_1.wav", (UNKNOWN,)),
        *((f"no-{speaker}_nohash_0.wav", (NO,)) for speaker in sorted(dev)),
        ("_background_noise_-a_tap.wav#0", (SILENCE,)),
        ("_background_noise_-b_pink.wav#0", (SILENCE,)),
        ("_background_noise_-b_pink.wav#1", (SILENCE,)),
    ]
    assert labelled(corpus, "test") == [
        ("_silence_-0.wav", (SILENCE,)),
        ("_unknown_-bed_1.wav", (UNKNOWN,)),
        ("go-2.wav", (9,)),
        ("yes-1.wav", (YES,)),
    ]


def test_weights_are_s3prls_and_balance_dev_with_its_seconds_of_noise(folders: tuple[Path, Path]) -> None:
    corpus = speech_commands(*folders)
    assert [u.weight for u in corpus.splits["train"]] == [6 / 1, 6 / 3, 6 / 3, 6 / 3, 6 / 2, 6 / 2]
    masses: dict[int, float] = defaultdict(float)
    for utterance in corpus.splits["dev"]:
        masses[utterance.label[0]] += utterance.weight
    assert masses == pytest.approx({UNKNOWN: 5, NO: 5, SILENCE: 5})  # S3PRL's list: 3 words and 2 noise files
    assert [u.weight for u in corpus.splits["dev"][3:]] == [
        5 / 2,
        5 / 4,
        5 / 4,
    ]  # files alike, then their seconds


def test_silence_is_a_random_second_in_train_and_each_whole_second_in_dev(folders: tuple[Path, Path]) -> None:
    corpus = speech_commands(*folders)
    noise = tone(2.5) * 10 ** (-3 / 20)
    dev = UtteranceDataset(corpus.splits["dev"], corpus.gain_db)
    np.testing.assert_allclose(dev[4][0], noise[:16000], atol=1e-4)
    np.testing.assert_allclose(dev[5][0], noise[16000:32000], atol=1e-4)
    train = UtteranceDataset(corpus.splits["train"], corpus.gain_db)
    draws = [train[5][0] for _ in range(3)]
    assert {len(draw) for draw in draws} == {16000}
    assert not np.array_equal(draws[0], draws[1]) or not np.array_equal(draws[0], draws[2])


def test_all_words_follow_the_official_lists(tmp_path: Path) -> None:
    root, words = all_words_folder(tmp_path)
    corpus = speech_commands(root, classes="all35")
    assert corpus.classes == (tuple(sorted(words)),)
    expected = {"train": "ab", "dev": "c", "test": "d"}
    for split, speakers in expected.items():
        assert sorted(ids(corpus.splits[split])) == sorted(
            f"{word}-{speaker}_nohash_0.wav" for word in words for speaker in speakers
        )
        for utterance in corpus.splits[split]:
            assert names(corpus, utterance.label) == utterance.path.parent.name
            assert utterance.weight == 1


def test_wrong_roots_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    root, test = folders
    missing, empty, other = tmp_path / "nowhere", tmp_path / "empty", voxceleb1_folder(tmp_path)[0]
    empty.mkdir()
    wanted = f"{V1} _background_noise_/*.wav."
    with refused(missing, ": no such folder. ", wanted):
        speech_commands(missing, test)
    with refused(root / "yes.txt", ": not a folder. ", wanted):
        (root / "yes.txt").write_text("")
        speech_commands(root / "yes.txt", test)
    with refused(empty, ": the folder is empty. ", wanted):
        speech_commands(empty, test)
    looks = " This looks like VoxCeleb1, which belongs to file_path (vqpool_sid)."
    with refused(other, ": not Speech Commands v0.01. ", wanted, looks):
        speech_commands(other, test)
    with refused(tmp_path, ": not Speech Commands v0.01. ", wanted, f" Did you mean {root}?"):
        speech_commands(tmp_path, test)
    looks = " This looks like Speech Commands v0.01, which belongs to speech_commands_root (vqpool_ks)."
    with refused(root, ": not the Speech Commands test set. ", TEST, looks):
        speech_commands(root, root)


def test_missing_test_root_and_unknown_class_set_are_refused(folders: tuple[Path, Path]) -> None:
    message = "Expected speech_commands_test_root as well (only classes: all35 needs none)."
    with refused("Speech Commands: ", message):
        speech_commands(folders[0])
    known = "Did you mean all35? Known: v1, all35."
    with refused("Unknown Speech Commands class set 'all53'. ", known):
        speech_commands(*folders, classes="all53")


def test_incomplete_folders_are_refused(folders: tuple[Path, Path]) -> None:
    root, test = folders
    wav(test / "bed" / "1.wav")
    classes = "yes, no, up, down, left, right, on, off, stop, go, _unknown_, _silence_."
    with refused(test / "bed", ": not a class of the test set. Expected folders named ", classes):
        speech_commands(root, test)
    noise = root / "_background_noise_"
    wav(noise / "a_tap.wav", tone(0.9))
    with refused(
        noise / "a_tap.wav",
        ": shorter than one second. Expected background noise of at least 1 s for _silence_.",
    ):
        speech_commands(root, test)
    for path in noise.glob("*.wav"):
        path.unlink()
    with refused(noise, ": no .wav files. Expected the noise recordings for the class _silence_."):
        speech_commands(root, test)


def test_a_corpus_that_the_hash_leaves_nothing_of_is_refused(folders: tuple[Path, Path]) -> None:
    """Google's own test part as the training folder: S3PRL would train on silence alone."""
    root, test = folders
    for word in ("yes", "no", "bed", "cat"):
        shutil.rmtree(root / word)
    for speaker in speakers_of("test", 4):
        wav(root / "yes" / f"{speaker}_nohash_0.wav")
    counts = "the speaker hash in the file names gives train 0 words, dev 0, and keeps 4 out for test."
    with refused(root, ": ", counts, " Expected the whole corpus."):
        speech_commands(root, test)


def test_bad_version_2_folders_are_refused(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    looks = " This looks like Speech Commands v0.01, which belongs to speech_commands_root (vqpool_ks)."
    with refused(folders[0], ": not Speech Commands v0.02. ", V2, V2_LISTS, looks):
        speech_commands(folders[0], classes="all35")
    root, _ = all_words_folder(tmp_path)
    listing = root / "testing_list.txt"
    good = listing.read_text()
    listing.write_text(good + "yes/e_nohash_0.wav\nno/f_nohash_0.wav\n")
    gone = root / "yes" / "e_nohash_0.wav"
    counts = (
        " does not exist (2 of 37 files are missing). Check the corpus folder, or fetch the corpus again."
    )
    with refused(listing, ", line 36: ", gone, counts):
        speech_commands(root, classes="all35")
    listing.write_text("yes d_nohash_0.wav\n")
    with refused(listing, ", line 1: Expected <word>/<file>.wav, but got 'yes d_nohash_0.wav'."):
        speech_commands(root, classes="all35")
    shutil.rmtree(root / "yes")
    with refused(root, ": Expected the 35 word folders of Speech Commands v0.02, but got 34."):
        speech_commands(root, classes="all35")
